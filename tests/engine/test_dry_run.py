"""A dry run: the digits of the plan, and nothing written anywhere."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import job_config
from noria.engine.dry_run import NOT_TRIED, dry_run
from noria.engine.scratch import lone_scratch_folder
from tests.support.commands import noria

FILES = {"2024/a.txt": 5, "2024/deep/b.tmp": 6, "2025/c.txt": 7, "top.jpg": 2000}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in: a source, an empty target, and all that a command could write to."""
    for name, size in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    (tmp_path / "source/link").symlink_to("top.jpg")
    for name in ("target", "home", "cache", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Every name below, with its size and when it was written."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(root))] = (status.st_size, status.st_mtime_ns)
    del found["tmp"]  # its own time is that of what came and went
    return found


def config(world: Path, **sections: Any) -> JobConfig:
    ends = {
        "source": {"url": f"file://{world}/source"},
        "target": {"url": f"file://{world}/target"},
    }
    return job_config({**ends, **sections}, "test")


def document(*arguments: str | Path) -> dict[str, Any]:
    code, out, err = noria(*arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_it_has_the_digits_of_the_plan_and_writes_nothing(world: Path) -> None:
    (world / "job.toml").write_text(
        f'[source]\nurl = "file://{world}/source"\n[target]\nurl = "file://{world}/target"\n'
        '[filter]\nexclude = ["*.tmp"]\nmax_size = "1K"\n'
    )
    before = everything(world)
    dry = document("plan", "job.toml", "--dry-run")
    assert everything(world) == before
    planned = document("plan", "job.toml")
    facts = json.loads((world / "job/manifest/manifest.json").read_text())
    assert dry["digest"] == planned["digest"] == facts["digest"]
    moved = {"objects": dry["objects_to_move"], "bytes": dry["bytes_to_move"]}
    assert moved == facts["to_move"]
    assert (dry["objects"], dry["bytes"]) == (facts["objects"], facts["bytes"])
    assert (dry["sizes"], dry["inventory"]) == (facts["sizes"], facts["inventory"])
    assert dry["part_bytes"] == facts["plan"]["part_bytes"]
    for same in ("left_out", "passed_over", "attributes", "shards"):
        assert dry[same] == planned[same], same
    assert dry["left_out"] == {"link": 1}
    assert dry["passed_over"] == {"filtered_size": 1, "filtered_name": 1}


def test_copy_says_it_to_people_and_makes_no_job(world: Path) -> None:
    before = everything(world)
    code, out, err = noria("copy", "./source", "./target", "--dry-run", "--min-size", "6b")
    assert code == 0, err
    assert "dry run: 3 of 3 objects, 2.01 kB, would move" in out
    assert "2 left out by size" in out
    assert "target: local, not probed; empty" in out
    assert out.count("not tried in a dry run: ") == len(NOT_TRIED)
    assert everything(world) == before
    assert os.listdir(world / "tmp") == []


def test_a_job_that_exists_is_named(world: Path) -> None:
    (world / "job.toml").write_text(
        f'[source]\nurl = "file://{world}/source"\n[target]\nurl = "file://{world}/target"\n'
    )
    document("plan", "job.toml")
    assert document("plan", "job.toml", "--dry-run")["job_exists"]


def test_a_target_that_is_not_there_would_be_made(world: Path) -> None:
    found = document("copy", "./source", "./nowhere", "--dry-run")
    assert found["target"]["was_empty"]
    assert found["target"]["would_be_made"]
    assert found["target"]["trouble"] is None
    assert found["objects_to_move"] == len(FILES)
    assert not (world / "nowhere").exists()


def test_what_stands_at_the_target_is_said(world: Path) -> None:
    (world / "target/old").write_bytes(b"1")
    assert document("copy", "./source", "./target", "--dry-run")["target"]["was_empty"] is False


def test_a_source_that_is_not_there_is_wrong_usage(world: Path) -> None:
    code, _, err = noria("copy", "./gone", "./target", "--dry-run")
    assert code == 2, err
    assert os.listdir(world / "tmp") == []


@pytest.mark.parametrize("when", ["a dry run", "reading the inventory"])
def test_temporary_files_are_gone_after_ctrl_c(world: Path, when: str) -> None:
    def say(line: str) -> None:
        if line.startswith(when):
            assert os.listdir(world / "tmp") != []
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), dry_run(config(world), None, say):
        pass
    assert os.listdir(world / "tmp") == []


def test_what_a_killed_one_left_is_removed_by_the_next(world: Path) -> None:
    asked = config(world)
    child = os.fork()
    if child == 0:
        with lone_scratch_folder(f"dry run\0{asked.source.url}\0{asked.target.url}", None):
            os._exit(0)
    os.waitpid(child, 0)
    assert len(os.listdir(world / "tmp")) == 1
    with dry_run(asked, None, lambda line: None) as found:
        assert found.manifest.objects_to_move == len(FILES)
        assert len(os.listdir(world / "tmp")) == 1
    assert os.listdir(world / "tmp") == []


def test_a_scratch_folder_that_is_missing_is_not_made(world: Path) -> None:
    chosen = str(world / "scratch")
    with dry_run(config(world, plan={"scratch": chosen}), None, lambda line: None):
        assert not Path(chosen).exists()
