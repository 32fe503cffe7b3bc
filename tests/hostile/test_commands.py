"""The real command, as a process of its own, on what is damaged: one line, exit code 2 or 3."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.finished_jobs import FinishedJob, contents

NORIA = Path(sys.executable).with_name("noria")
SECONDS = 60


def ended(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NORIA, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.mark.parametrize(
    ("command", "name", "data", "code", "word"),
    [
        ("status", "job.json", b"[" * 100_000, 3, "job.json is damaged"),
        ("run", "job.json", b'{"schema": 1}', 3, "job.json is damaged"),
        ("reconcile", "manifest/manifest.json", b"\xff", 3, "manifest.json is damaged"),
        ("reconcile", "manifest/shards.parquet", b"PAR1PAR1", 3, "not what was frozen"),
        ("reconcile", "uploads/00000/00000002/000000.json", b"{}", 0, ""),
        ("clean", "sealed/00000/00000002-parts-000000-00000000.json", b"{}", 0, ""),
        ("verify", "manifest/part-00000.parquet", b"", 3, "not of its frozen size"),
    ],
)
def test_a_damaged_job_directory(
    tmp_path: Path,
    finished: FinishedJob,
    command: str,
    name: str,
    data: bytes,
    code: int,
    word: str,
) -> None:
    job = finished.copy(tmp_path / "job")
    (job / name).write_bytes(data)
    before = contents(job)
    process = ended(command, job, "--json")
    assert process.returncode == code, process.stderr
    document = json.loads(process.stdout)
    if code == 0:
        return
    assert document["exit_code"] == code
    assert process.stderr.count("\n") == 1
    assert process.stderr.startswith("noria: ")
    assert word in process.stderr
    assert contents(job) == before


def test_a_job_file_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_bytes(b'source = "file:///a"\ntarget = "\xff')
    process = ended("plan", tmp_path / "job.toml", "--json")
    assert process.returncode == 2
    assert process.stderr == f"noria: {tmp_path}/job.toml is not valid TOML: it is not UTF-8\n"
    assert not (tmp_path / "job").exists()
