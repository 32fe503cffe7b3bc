"""Metadata operations are delayed below a path alone, and a job is opened in few of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.studies.resume.__main__ import open_job, seal_all
from noria.benchmarks.studies.resume.slow_files import slowed
from noria.manifests.job.directory import JobDirectory

OPERATIONS = """
import json, os, sys, time
root = sys.argv[1]
file, folder, descriptor = f"{root}/file", f"{root}/folder", os.open(root, os.O_RDONLY)
name = lambda: open(file, "w").close()
operations = {
    "open": name,
    "stat": lambda: os.stat(file),
    "stat in a folder": lambda: os.stat("file", dir_fd=descriptor),
    "fsync": lambda: os.fsync(descriptor),
    "list": lambda: os.listdir(root),
    "scan": lambda: [*os.scandir(root)],
    "mkdir": lambda: os.mkdir(folder),
    "rmdir": lambda: os.rmdir(folder),
    "link": lambda: os.link(file, f"{root}/link"),
    "rename": lambda: os.rename(f"{root}/link", f"{root}/other"),
    "unlink": lambda: os.unlink(f"{root}/other"),
    "unlink in a folder": lambda: os.unlink("file", dir_fd=descriptor),
}
seconds = {}
for operation, call in operations.items():
    begun = time.perf_counter()
    call()
    seconds[operation] = time.perf_counter() - begun
print(json.dumps(seconds))
"""
DELAY_MS = 100


@pytest.mark.parametrize("below", [True, False])
def test_each_operation_below_the_path_is_delayed(tmp_path: Path, below: bool) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slower").mkdir()
    root = tmp_path / ("slow" if below else "slower")
    done = subprocess.run(
        [sys.executable, "-c", OPERATIONS, root],
        env={**os.environ, **slowed(tmp_path / "slow", DELAY_MS)},
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds = json.loads(done.stdout)
    assert len(seconds) == 12
    if below:
        assert {name for name, each in seconds.items() if each < DELAY_MS / 1000} == set()
    else:
        assert sum(seconds.values()) < 12 * DELAY_MS / 1000


@pytest.mark.parametrize("first_edition", [False, True])
def test_a_job_is_opened_with_all_its_shards(tmp_path: Path, first_edition: bool) -> None:
    seal_all(tmp_path / "job", 2_300, first_edition=first_edition)
    steps = open_job(tmp_path / "job", 2_300)
    assert list(steps) == ["hold", "compact", "seals", "schedule"]


def test_a_resume_waits_for_few_operations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their number, not by a clock: a file for each shard would be a thousand of each."""
    shards = 1_000
    seal_all(tmp_path / "job", shards, first_edition=False)
    looked_at: list[str] = []
    read, scan = JobDirectory.read, os.scandir

    def counted_read(self: JobDirectory, name: str) -> bytes | None:
        looked_at.append(name)
        return read(self, name)

    def counted_scan(path: Path) -> Any:
        looked_at.append(str(path))
        return scan(path)

    monkeypatch.setattr(JobDirectory, "read", counted_read)
    monkeypatch.setattr(os, "scandir", counted_scan)
    open_job(tmp_path / "job", shards)
    assert 0 < len(looked_at) < shards / 4
