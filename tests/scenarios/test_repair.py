"""What is wrong at the target is said until it is repaired, and a retry repairs it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria.engine import job
from noria.engine.repair import AskedAgain, known_damage, note_damage
from noria.manifests.errors import AccessDenied
from noria.manifests.job.directory import JobDirectory
from noria.workers.stores.paced import PacedTarget
from tests.support.finished_jobs import KIB, OBJECTS, FinishedJob, finish_job
from tests.support.moves import NORIA, Move, plain

SPECS = [plain("a", 10), plain("dir/b", 2000), plain("large", 6 * 1024 * 1024), plain("z", 30)]
OFF = ("--metrics-address", "off")


@pytest.fixture
def finished(tmp_path: Path) -> FinishedJob:
    return finish_job(tmp_path)


def noria(*arguments: str | Path, exit_code: int = 0) -> str:
    off = () if arguments[0] == "status" else (*OFF, "--workers", "1")
    ended = subprocess.run([NORIA, *arguments, *off], capture_output=True, text=True, timeout=100)
    assert ended.returncode == exit_code, (ended.stdout, ended.stderr)
    return ended.stdout


def rot(path: Path) -> None:
    """Other bytes in a file that looks as before."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with open(path, "r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def bytes_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("key", ["a", "huge"], ids=["one of a shard", "of a shard of its own"])
def test_bytes_that_rot_are_said_until_they_are_sent_again(
    finished: FinishedJob, tmp_path: Path, key: str
) -> None:
    root, target = finished.root, tmp_path / "target"
    rot(target / key)
    assert "noria retry" in noria("verify", root, exit_code=1)
    for command, exit_code in (("status", 0), ("run", 1)):
        out = noria(command, root, exit_code=exit_code)
        assert "DAMAGED: 1 object at the target with other bytes than were sent (damaged)" in out
        assert f"noria retry {root}" in out
    done = json.loads(noria("retry", root, "--json"))
    assert (done["retried"], done["damaged"], done["reconciled"]) == (1, {}, True)
    assert bytes_of(target) == OBJECTS
    noria("verify", root)
    assert "DAMAGED" not in noria("status", root)
    assert "DAMAGED" not in noria("run", root)


def test_a_huge_object_is_one_however_many_leases_read_it_back(
    finished: FinishedJob, tmp_path: Path
) -> None:
    root, huge = finished.root, tmp_path / "target/huge"
    found = json.loads(noria("verify", root, "--json"))
    assert (found["reread"], found["bytes"]) == (5, sum(map(len, OBJECTS.values())))
    status = huge.stat()
    with open(huge, "r+b") as file:
        for place in (0, status.st_size - 1):
            file.seek(place)
            file.write(b"?")
    os.utime(huge, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = json.loads(noria("verify", root, "--json", exit_code=1))
    assert (found["reread"], found["damaged"], found["causes"]) == (4, 1, {"damaged": 1})
    assert "DAMAGED: 1 object at" in noria("status", root)


def test_only_what_this_job_wrote_is_replaced(finished: FinishedJob, tmp_path: Path) -> None:
    root, file = finished.root, tmp_path / "target/z"
    rot(file)
    noria("verify", root, exit_code=1)
    file.unlink()
    file.write_bytes(b"somebody else's")
    done = json.loads(noria("retry", root, "--json", exit_code=1))
    assert (done["retried"], done["causes"]) == (1, {"target_conflict": 1})
    assert file.read_bytes() == b"somebody else's"
    assert "target_conflict" in noria("status", root)
    file.unlink()
    noria("retry", root, "--cause", "target_conflict")
    assert bytes_of(tmp_path / "target") == OBJECTS


def test_what_was_changed_in_place_is_told_from_what_others_wrote(
    finished: FinishedJob, tmp_path: Path
) -> None:
    """It is this job's own object, so nothing is there to be moved away."""
    root, file = finished.root, tmp_path / "target/z"
    with open(file, "r+b") as opened:
        opened.write(b"LAST")
    out = noria("verify", root, exit_code=1)
    assert f"if the source is right, delete them at the target, then: noria retry {root}" in out
    assert "changed or replaced after this job wrote it" in out
    out = noria("retry", root, exit_code=1)
    assert "this job wrote the object at the target, and its bytes are not the source's" in out
    assert "move it away" not in out
    file.write_bytes(b"of another size")
    assert "this job wrote the object at the target" in noria("retry", root, exit_code=1)
    file.unlink()
    noria("retry", root)
    assert bytes_of(tmp_path / "target") == OBJECTS


def test_what_may_not_be_deleted_stays_damaged(
    finished: FinishedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that is in the way would be taken for the one that the retry has written."""

    def denied(*_: Any, **__: Any) -> None:
        raise AccessDenied("no right to delete")

    rot(tmp_path / "target/z")
    noria("verify", finished.root, exit_code=1)
    monkeypatch.setattr(PacedTarget, "delete_object", denied)
    ended = job.run(finished.root, asked_again=AskedAgain())
    assert (ended.exit_code, ended.retried, ended.damaged) == (1, 0, {"damaged": 1})


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_what_the_source_no_longer_has_is_not_deleted(
    finished: FinishedJob, tmp_path: Path, lost: str
) -> None:
    """However damaged: it may be all that is left of it."""
    rot(tmp_path / "target/z")
    noria("verify", finished.root, exit_code=1)
    damaged = (tmp_path / "target/z").read_bytes()
    if lost == "gone":
        (tmp_path / "source/z").unlink()
    else:
        (tmp_path / "source/z").write_bytes(b"another one")
    ended = job.run(finished.root, asked_again=AskedAgain())
    assert (ended.exit_code, ended.retried, ended.damaged) == (1, 0, {"damaged": 1})
    assert (tmp_path / "target/z").read_bytes() == damaged


def test_named_entries_alone(finished: FinishedJob, tmp_path: Path) -> None:
    root, target, names = finished.root, tmp_path / "target", tmp_path / "names"
    for key in ("a", "dir/secret-name"):
        (target / key).unlink()
    names.write_bytes(b"dir/secret-name\r\nno such name\n")
    done = json.loads(noria("retry", root, "--keys", names, "--json", exit_code=1))
    assert (done["retried"], done["differences"]) == (1, {"missing": 1})
    assert (target / "dir/secret-name").read_bytes() == b"x" * (64 * KIB)
    assert "NOT reconciled: 1 missing" in noria("status", root)
    # That one was never verified: reconciling has found it.
    assert json.loads(noria("retry", root, "--json"))["retried"] == 1
    assert bytes_of(target) == OBJECTS
    names.write_bytes(b"\n")
    noria("retry", root, "--keys", names, exit_code=2)


def test_a_verification_that_is_cut_short_forgets_nothing(
    finished: FinishedJob, tmp_path: Path
) -> None:
    rot(tmp_path / "target/z")
    noria("verify", finished.root, exit_code=1)
    directory = JobDirectory.open(finished.root)
    empty = directory.path("failures.parquet")
    noria("run", finished.root, exit_code=1)
    note_damage(directory, empty, complete=False)
    assert known_damage(directory) == {"damaged": 1}
    note_damage(directory, empty, complete=True)
    assert known_damage(directory) == {}


def test_what_vanished_or_was_replaced_in_a_bucket(make_move: Callable[..., Move]) -> None:
    move = make_move(SPECS)
    move.copy()
    client = move.seaweedfs.client()
    for key in ("dir/b", "large"):
        client.delete_object(Bucket=move.bucket, Key=key)
    client.put_object(Bucket=move.bucket, Key="a", Body=b"0123456789")
    found = move.noria("verify", move.job, *OFF, exit_code=1)
    causes = {"target_changed": 1, "target_missing": 2}
    assert (found["damaged"], found["causes"]) == (3, causes)
    assert move.noria("status", move.job)["damaged"] == causes
    assert move.noria("run", move.job, *OFF, exit_code=1)["damaged"] == causes
    repaired = move.noria("retry", move.job, *OFF, exit_code=1)
    assert (repaired["retried"], repaired["damaged"]) == (3, {})
    assert repaired["causes"] == {"target_conflict": 1}
    assert client.get_object(Bucket=move.bucket, Key="a")["Body"].read() == b"0123456789"
    client.delete_object(Bucket=move.bucket, Key="a")
    move.noria("retry", move.job, *OFF)
    move.noria("verify", move.job, *OFF)
    move.expect_rclone_finds_no_difference()
    client.close()
