"""A result of a probe is believed for an hour, and only if nobody else could have written it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from noria.engine import known_targets
from noria.engine.known_targets import BEST, KnownTarget, ProbedTargets
from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.plan.providers import NameRules
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import Checksum, TargetStore

FACTS = TargetFacts(
    capabilities=BEST,
    name_rules=NameRules(merges_slashes=True, reserved_segments=(".uploads",)),
    provider="seaweedfs",
)


def known(cache: Path, identity: str | None = "here", prefix: str = "") -> KnownTarget:
    target = cast(TargetStore, SimpleNamespace(identity=identity))
    return KnownTarget(target, prefix, {"XDG_CACHE_HOME": str(cache)})


def file_of(cache: Path) -> Path:
    (file,) = (cache / "noria" / "targets").iterdir()
    return file


def test_what_is_kept_is_recalled_for_the_same_target_alone(tmp_path: Path) -> None:
    known(tmp_path).keep(FACTS)
    assert known(tmp_path).recall() == FACTS
    assert known(tmp_path, "there").recall() is None
    assert known(tmp_path, prefix="a/").recall() is None
    assert known(tmp_path, None).recall() is None


def test_it_tells_nobody_anything(tmp_path: Path) -> None:
    known(tmp_path, "s3://bucket of KEYID").keep(FACTS)
    file = file_of(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert "bucket" not in file.name + file.read_text()
    assert "KEYID" not in file.name + file.read_text()


@pytest.mark.parametrize(
    "lesser",
    [
        replace(BEST, checksum=Checksum.MD5, checksum_in_trailer=False),
        replace(BEST, if_absent=False),
        replace(BEST, checksum_in_trailer=False),
        replace(BEST, if_match=False),
    ],
)
def test_a_result_that_could_be_better_is_neither_kept_nor_believed(
    tmp_path: Path, lesser: Any
) -> None:
    known(tmp_path).keep(replace(FACTS, capabilities=lesser))
    assert known(tmp_path).recall() is None
    known(tmp_path).keep(FACTS)
    kept = json.loads(file_of(tmp_path).read_text())
    kept["facts"]["capabilities"] = asdict(lesser)
    file_of(tmp_path).write_text(json.dumps(kept))
    assert known(tmp_path).recall() is None


@pytest.mark.parametrize("age_seconds", [known_targets.FRESH_SECONDS + 1, -60.0])
def test_neither_an_old_result_nor_one_of_the_future_is_believed(
    tmp_path: Path, age_seconds: float
) -> None:
    known(tmp_path).keep(FACTS)
    kept = json.loads(file_of(tmp_path).read_text())
    kept["probed"] = time.time() - age_seconds
    file_of(tmp_path).write_text(json.dumps(kept))
    assert known(tmp_path).recall() is None


def writable_by_others(file: Path) -> None:
    file.chmod(0o666)


def readable_by_others(file: Path) -> None:
    file.chmod(0o644)


def in_an_open_folder(file: Path) -> None:
    file.parent.chmod(0o777)


def a_link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def a_linked_folder(file: Path) -> None:
    folder = file.parent
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def of_another_user(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(file, 65534, 65534)


def too_large(file: Path) -> None:
    file.write_text(file.read_text() + " " * known_targets.SIZE_MAX)


def torn(file: Path) -> None:
    file.write_text(file.read_text()[:-10])


def of_other_types(file: Path) -> None:
    kept = json.loads(file.read_text())
    kept["facts"]["name_rules"]["merges_slashes"] = "yes"
    file.write_text(json.dumps(kept))


@pytest.mark.parametrize(
    "spoil",
    [
        writable_by_others,
        readable_by_others,
        in_an_open_folder,
        a_link,
        a_linked_folder,
        a_pipe,
        of_another_user,
        too_large,
        torn,
        of_other_types,
    ],
)
def test_what_others_could_have_written_is_not_believed(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    known(tmp_path).keep(FACTS)
    assert known(tmp_path).recall() == FACTS
    spoil(file_of(tmp_path))
    assert known(tmp_path).recall() is None


def test_old_files_go_and_others_stay(tmp_path: Path) -> None:
    known(tmp_path, "old").keep(FACTS)
    old = file_of(tmp_path)
    own = old.with_name("notes.txt")
    own.write_text("a user's")
    for file in (old, own):
        os.utime(file, (0, 0))
    known(tmp_path).keep(FACTS)
    assert not old.exists()
    assert own.exists()


def test_without_a_place_for_it_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known(tmp_path / "file").keep(FACTS)
    assert known(tmp_path / "file").recall() is None
    relative = KnownTarget(
        cast(TargetStore, SimpleNamespace(identity="here")), "", {"XDG_CACHE_HOME": "not/absolute"}
    )
    assert not Path("not").exists()
    assert relative.recall() is None


def test_credentials_that_cannot_be_had_are_no_error_here(tmp_path: Path) -> None:
    class Nobody:
        @property
        def identity(self) -> str:
            raise AccessDenied("no credentials")

    target = KnownTarget(cast(TargetStore, Nobody()), "", {"XDG_CACHE_HOME": str(tmp_path)})
    target.keep(FACTS)
    assert target.recall() is None


def test_of_plans_at_once_one_probes_and_the_others_wait_for_it() -> None:
    probed = ProbedTargets()
    assert probed.recall("here") is None, "the first has to probe"
    assert probed.recall("there") is None, "nobody waits for another target"
    found: list[TargetFacts | None] = []
    waiting = threading.Thread(target=lambda: found.append(probed.recall("here")))
    waiting.start()
    waiting.join(0.2)
    assert not found
    probed.keep("here", FACTS)
    waiting.join(10)
    assert found == [FACTS]
    assert probed.recall("here") == FACTS


def test_nobody_waits_for_a_probe_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    probed = ProbedTargets()
    assert probed.recall("here") is None
    probed.give_up("here")
    begun = time.monotonic()
    assert probed.recall("here") is None
    assert time.monotonic() - begun < 5, "and the next one probes itself"
    monkeypatch.setattr(known_targets, "PATIENCE_SECONDS", 0.1)
    assert probed.recall("there") is None
    assert probed.recall("there") is None, "one that takes too long is not waited for"


def test_what_an_hour_old_file_says_is_told_to_plans_that_wait(tmp_path: Path) -> None:
    known(tmp_path).keep(FACTS)
    probed = ProbedTargets()
    target = cast(TargetStore, SimpleNamespace(identity="here"))
    one = KnownTarget(target, "", {"XDG_CACHE_HOME": str(tmp_path)}, probed=probed)
    assert one.recall() == FACTS
    assert probed.recall("here") == FACTS


def test_a_folder_is_tried_once_for_all_directories_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []
    monkeypatch.setattr(JobDirectory, "check_place", tried.append)
    probed = ProbedTargets()
    (tmp_path / "other").mkdir()
    for name in ("one", "two", "other/three"):
        probed.check_place(tmp_path / name)
    assert tried == [tmp_path / "one", tmp_path / "other/three"]


def test_a_folder_that_will_not_do_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path) -> None:
        raise ConfigurationError("no locks")

    monkeypatch.setattr(JobDirectory, "check_place", refuse)
    probed = ProbedTargets()
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            probed.check_place(tmp_path / "one")
