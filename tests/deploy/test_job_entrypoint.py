"""noria-job, the entrypoint of a RayJob: which ends of `noria run` KubeRay takes for what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from tests.support.processes import wait_until

SCRIPT = ROOT / "deploy" / "scripts" / "noria-job"
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """A job of some files, "two" among them."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("one", "two", *map(str, range(30))):
        (source / name).write_bytes(name[:1].encode() * 50_000)
    file = tmp_path / "move-1.toml"
    file.write_text(
        f'[source]\nurl = "{source}"\n[target]\nurl = "{tmp_path}/target"\n'
        '[run]\nworkers = 1\nmetrics_address = "off"\n'
    )
    return file


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments, "--no-progress"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_all_moved_is_success(job_file: Path, tmp_path: Path) -> None:
    ended = run(job_file)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("noria-job: exit code 0 of noria run\n")
    assert (tmp_path / "target" / "one").exists()


def test_findings_are_success_and_are_told(job_file: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "two").write_text("somebody else's")
    ended = run(job_file)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith(
        "noria-job: succeeded with findings (exit code 1 of noria run)"
    )
    assert (tmp_path / "target" / "one").exists()
    assert (tmp_path / "target" / "two").read_text() == "somebody else's"
    failures = subprocess.run(
        [Path(sys.executable).with_name("noria"), "failures", tmp_path / "move-1", "--show-keys"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "two" in failures.stdout, "the job directory has what did not move"


def test_what_somebody_has_to_correct_is_failure(tmp_path: Path) -> None:
    (tmp_path / "move-1.toml").write_text("[source]\n")
    ended = run(tmp_path / "move-1.toml")
    assert ended.returncode == 2
    assert ended.stdout.endswith("noria-job: exit code 2 of noria run\n")


def test_a_job_that_ray_stops_drains_and_is_failure(job_file: Path, tmp_path: Path) -> None:
    """Ray signals the process group of the entrypoint: the script has to wait for noria."""
    process = subprocess.Popen(
        [SCRIPT, job_file, "--no-progress", "--bandwidth", "64KiB/s"],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        status = tmp_path / "move-1" / "status.json"
        wait_until(lambda: status.exists() and '"moving"' in status.read_text(), "a job at work")
        os.killpg(process.pid, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 3, (out, err)
    assert out.endswith("noria-job: exit code 3 of noria run\n")
