"""A run that is steered while it runs: real processes, which are told through the job directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.null.certificates import make_certificate
from noria.engine.job import status
from noria.engine.status import JobStatus
from noria.engine.steering.guard import GuardState
from noria.workers.runtime.bandwidth import PIECE_BYTES
from tests.support.far_store import far_store
from tests.support.moves import NORIA, Move, plain
from tests.support.processes import descendants

MB = 1_000_000
FOLLOW_SECONDS = 10.0
WINDOW_SECONDS = 10.0
TOLERANCE = 0.05


class FolderJob:
    """Files of one folder go to another, as slowly as is asked for."""

    def __init__(self, folder: Path, *, files: int, size: int) -> None:
        self.source, self.target, self.job = (folder / name for name in ("in", "out", "job"))
        self.source.mkdir()
        self.target.mkdir()
        for number in range(files):
            with (self.source / f"{number:04}").open("wb") as file:
                file.truncate(size)

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        ends = [f"file://{self.source}", f"file://{self.target}", "--job", str(self.job)]
        quiet = ["--metrics-address", "off", "--json"]
        driver = subprocess.Popen(
            [NORIA, "copy", *ends, *quiet, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            wait_for(lambda: self.status() is not None and self.status().workers > 0, 60)
            yield driver
        finally:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
            driver.communicate()

    def noria(self, *arguments: str, exit_code: int = 0) -> str:
        ended = subprocess.run([NORIA, *arguments], capture_output=True, text=True, timeout=60)
        assert ended.returncode == exit_code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    def status(self) -> JobStatus:
        return status(self.job)

    def landed(self) -> int:
        return sum(1 for each in self.target.rglob("*") if each.is_file() and each.name[0] != ".")


def wait_for(holds: Callable[[], Any], seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            if holds():
                return
        except Exception:  # noqa: BLE001 - not there yet
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come about in time")


def file_bytes(driver: subprocess.Popen[bytes], counter: str) -> int:
    """What all processes below the driver have read ("rchar") or written ("wchar") so far."""
    total = 0
    for pid, _ in descendants(driver.pid):
        try:
            text = Path(f"/proc/{pid}/io").read_text()
        except OSError:
            continue
        total += int(text.split(f"{counter}:")[1].split()[0])
    return total


def test_a_bandwidth_that_is_set_holds_after_ten_seconds_within_five_percent(
    tmp_path: Path,
) -> None:
    job = FolderJob(tmp_path, files=4_000, size=MB // 8)  # written as soon as they are read
    with job.running("--workers", "3", "--bandwidth", "16MB/s") as driver:
        time.sleep(3)
        job.noria("set", str(job.job), "bandwidth=8MB/s")
        time.sleep(FOLLOW_SECONDS)
        before, began = file_bytes(driver, "wchar"), time.monotonic()
        time.sleep(WINDOW_SECONDS)
        rate = (file_bytes(driver, "wchar") - before) / (time.monotonic() - began)
        assert 8 * MB * 0.8 <= rate <= 8 * MB * (1 + TOLERANCE)
        assert job.status().bandwidth == 8 * MB


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """An empty folder with room for more than memory should hold."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_a_limit_holds_for_bodies_that_began_without_one(disk_path: Path) -> None:
    job = FolderJob(disk_path, files=3, size=3_000 * MB)
    with job.running("--workers", "1") as driver:
        time.sleep(1)
        job.noria("set", str(job.job), "bandwidth=2MB/s")
        time.sleep(FOLLOW_SECONDS)
        before = file_bytes(driver, "rchar")
        time.sleep(WINDOW_SECONDS)
        most = 2 * MB * WINDOW_SECONDS * (1 + TOLERANCE) + PIECE_BYTES
        assert file_bytes(driver, "rchar") - before <= most


def test_nothing_new_is_begun_in_a_pause_and_all_goes_on_after_it(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=120, size=MB)
    with job.running("--workers", "2", "--bandwidth", "6MB/s") as driver:
        wait_for(lambda: job.landed() > 5, 30)
        said = job.noria("pause", str(job.job), "--reason", "a patch")
        assert "paused (control/000001.json); the driver heeds it" in said
        wait_for(lambda: not job.status().shards.get("leased"), 25)
        landed, read = job.landed(), file_bytes(driver, "rchar")
        assert landed < 120
        time.sleep(5)
        assert job.landed() == landed
        assert file_bytes(driver, "rchar") - read < PIECE_BYTES, (
            "workers read what they are told, no more"
        )
        told = job.noria("status", str(job.job))
        assert "paused by" in told
        assert "(a patch): nothing new is begun" in told
        assert driver.poll() is None
        job.noria("resume", str(job.job))
        job.noria("set", str(job.job), "bandwidth=none")
        out, _ = driver.communicate(timeout=60)
    done = json.loads(out)
    assert (driver.returncode, done["failed"], done["reconciled"]) == (0, 0, True)
    assert job.landed() == 120


def test_workers_come_and_go_as_is_asked_for(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=200, size=MB)
    with job.running("--workers", "1", "--bandwidth", "4MB/s") as driver:
        job.noria("set", str(job.job), "workers=3")
        wait_for(lambda: job.status().workers == 3, 30)
        job.noria("set", str(job.job), "workers=1")
        wait_for(lambda: job.status().workers == 1, 30)
        assert job.status().workers_lost == 0
        job.noria("set", str(job.job), "--clear")
        job.noria("set", str(job.job), "bandwidth=none")
        driver.communicate(timeout=60)
    assert driver.returncode == 0


def test_what_was_asked_for_outlives_the_driver(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=60, size=MB)
    with job.running("--workers", "1", "--bandwidth", "4MB/s") as driver:
        job.noria("set", str(job.job), "bandwidth=2MB/s", "source.requests_per_second=500")
        job.noria("pause", str(job.job))
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    with job.running("--bandwidth", "4MB/s") as driver:
        wait_for(lambda: job.status().paused, 20)
        now = job.status()
        assert now.bandwidth == 2 * MB
        assert now.in_force is not None
        assert now.in_force.rate("source_requests_per_second") == 500
        landed = job.landed()
        time.sleep(3)
        assert job.landed() == landed
        job.noria("set", str(job.job), "--clear", "bandwidth", "source.requests_per_second")
        job.noria("resume", str(job.job))
        driver.communicate(timeout=90)
    assert driver.returncode == 0
    assert job.landed() == 60


def test_progress_in_a_pause_outlives_the_driver(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=150, size=MB)
    with job.running("--workers", "1", "--bandwidth", "4MB/s") as driver:
        wait_for(lambda: job.landed() > 5, 30)
        job.noria("pause", str(job.job))
        wait_for(lambda: not job.status().shards.get("leased"), 25)
        before = job.status()
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert 0 < before.objects_done <= job.landed() < 150
    assert sum(before.outcomes.values()) < before.objects_done, "not all of it is sealed"
    with job.running() as driver:
        wait_for(lambda: job.status().updated_seconds > before.updated_seconds, 20)
        wait_for(lambda: job.status().paused, 20)
        now = job.status()
        assert (now.objects_done, now.bytes_done) == (before.objects_done, before.bytes_done)
        job.noria("resume", str(job.job))
        driver.communicate(timeout=60)
    assert driver.returncode == 0
    assert job.status().objects_done == job.landed() == 150


def test_a_drain_ends_the_driver_that_lives_and_no_later_one(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=60, size=MB)
    with job.running("--workers", "1", "--bandwidth", "4MB/s") as driver:
        assert "asked to end" in job.noria("drain", str(job.job))
        out, _ = driver.communicate(timeout=60)
        assert driver.returncode == 3
        assert "drained on request of" in json.loads(out)["stopped"]
    assert "nothing runs in" in job.noria("drain", str(job.job))
    assert "nothing runs in" in job.noria("set", str(job.job), "bandwidth=none")
    job.noria("run", str(job.job), "--metrics-address", "off")
    assert job.landed() == 60


def test_requests_a_second_are_kept_to(tmp_path: Path) -> None:
    """A file takes two at least: one at the source, one at the target."""
    job = FolderJob(tmp_path, files=100, size=1000)
    job.noria("plan", str(_job_file(job)))
    job.noria("set", str(job.job), "target.requests_per_second=10")
    began = time.monotonic()
    job.noria("run", str(job.job), "--workers", "2", "--metrics-address", "off")
    assert time.monotonic() - began >= 100 / 10 * 0.95 - 1
    assert job.landed() == 100


def test_wrong_settings_are_named_all_at_once_and_nothing_is_recorded(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=1, size=1)
    job.noria("plan", str(_job_file(job)))
    said = job.noria("set", str(job.job), "bandwith=1MB/s", "workers=-1", "x=1", exit_code=2)
    assert "bandwith: no such setting; did you mean bandwidth?" in said
    assert "workers: it should be greater than or equal to 0" in said
    assert "x: no such setting" in said
    assert not (job.job / "control").exists()
    assert "write it as workers=VALUE" in job.noria("set", str(job.job), "workers", exit_code=2)


def _job_file(job: FolderJob) -> Path:
    path = job.job.with_suffix(".toml")
    ends = {"source": job.source, "target": job.target}
    path.write_text("".join(f'{name} = "file://{place}"\n' for name, place in ends.items()))
    return path


def test_a_pause_between_clouds_keeps_what_was_done(make_move: Callable[..., Move]) -> None:
    move = make_move([plain(f"{number:03}", 300_000) for number in range(60)])
    copying = move.start(
        *("copy", move.source, move.target, "--job", move.job, "--bandwidth", "2MB/s"),
        *("--metrics-address", "off", "--workers", "2", "--json"),
    )
    wait_for(lambda: status(move.job).objects_done > 4, 60)
    move.noria("pause", move.job)
    wait_for(lambda: not status(move.job).shards.get("leased"), 25)
    done = status(move.job).objects_done
    assert done < 60
    time.sleep(4)
    assert status(move.job).objects_done == done
    move.noria("set", move.job, "bandwidth=none")
    move.noria("resume", move.job)
    copying.communicate(timeout=90)
    assert copying.returncode == 0
    move.expect_all_arrived()


def test_a_guard_takes_pace_from_the_job_and_gives_it_back(tmp_path: Path) -> None:
    job = FolderJob(tmp_path, files=4_000, size=MB // 8)
    path, busy = job.job.with_suffix(".toml"), tmp_path / "busy"
    path.write_text(
        f'target = "file://{job.target}"\n[source]\nurl = "file://{job.source}"\n'
        f'[source.guard]\ncommand = "test ! -e {busy}"\nevery = 1\nfloor = 0.5\n'
        '[run]\nworkers = 1\nbandwidth = "16MB/s"\nmetrics_address = "off"\n'
    )
    driver = subprocess.Popen([NORIA, "run", str(path), "--json"], stdout=subprocess.PIPE)
    try:
        wait_for(lambda: job.status().bytes_per_second > 10 * MB, 60)
        assert job.status().bandwidth == 16 * MB
        busy.touch()
        wait_for(lambda: (job.status().bandwidth or 0) < 11 * MB, 20)
        now = job.status()
        assert now.bandwidth is not None
        assert now.bandwidth >= 0.5 * 14 * MB, "not below its floor"
        assert now.in_force is not None
        assert now.in_force.guards["source"].holds
        assert "the guard of the source leaves 60 %" in job.noria("status", str(job.job))
        busy.unlink()
        before = now.bandwidth
        wait_for(lambda: (job.status().bandwidth or 0) > before, 25)
        job.noria("drain", str(job.job))
        driver.communicate(timeout=60)
        assert driver.returncode == 3
    finally:
        driver.kill()
        driver.communicate()


def test_the_job_yields_while_a_real_source_is_slow_to_its_small_reads(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    move = make_move([plain(f"{number:03}", 100_000) for number in range(200)])
    certificate = make_certificate(tmp_path)
    endpoint = move.azurite.process.endpoint
    with far_store(endpoint, certificate, one_way_seconds=0.005) as source:
        move.environment["AZURE_STORAGE_CONNECTION_STRING"] = (
            move.azurite.connection_string.replace(endpoint, source.endpoint)
        )
        sections: dict[str, dict[str, object]] = {
            "source": {"ca_bundle": str(certificate.ca_bundle)},
            "source.guard": {"latency_factor": 4, "every": 1, "floor": 0.5},
        }
        job = move.job_file(**sections)
        moving = move.start("run", job, "--bandwidth", "300kB/s", "--workers", "1", "--json")

        def guard() -> GuardState:
            limits = status(move.job).in_force
            assert limits is not None
            return limits.guards["source"]

        try:
            wait_for(lambda: status(move.job).objects_done > 5, 60)
            assert "ms when quiet" in guard().said
            assert not guard().holds
            source.one_way_seconds = 0.4
            wait_for(lambda: guard().factor <= 0.6, 30)
            source.one_way_seconds = 0.005
            wait_for(lambda: guard().factor > 0.6, 40)
            move.noria("set", move.job, "bandwidth=none")
            moving.communicate(timeout=120)
            assert moving.returncode == 0
        finally:
            moving.kill()
            moving.communicate()
    move.expect_all_arrived()
