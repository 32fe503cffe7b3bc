"""What `noria status` says is so: of a living driver, a dead one, a finished job, a stopped one."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from noria.engine import job
from noria.engine.status import STATUS_FILE, VERIFY_STATUS_FILE, Phase, load_status, save_status
from noria.manifests.errors import AnotherDriver
from noria.manifests.job.directory import JobDirectory
from tests.support.finished_jobs import finish_job
from tests.support.moves import NORIA
from tests.support.processes import wait_until

OBJECTS = 4_000


@pytest.fixture
def ends(tmp_path: Path) -> list[str]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(OBJECTS):
        (source / f"{number:04}").write_bytes(b"x")
    return [f"file://{source}", f"file://{target}", "--job", f"{tmp_path}/job"]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [NORIA, *arguments, "--metrics-address", "off", "--workers", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said(root: Path) -> tuple[Phase, str | None]:
    found = job.status(root)
    return found.phase, found.stopped


def test_a_driver_that_is_killed_is_told_at_once(ends: list[str], tmp_path: Path) -> None:
    root = tmp_path / "job"
    process = start("copy", *ends)
    wait_until(lambda: any((tmp_path / "target").glob("0*")), "the first object")
    wait_until((root / STATUS_FILE).exists, "the first status")
    process.send_signal(signal.SIGSTOP)
    assert said(root) == (Phase.MOVING, None)
    process.kill()
    process.communicate(timeout=30)
    phase, why = said(root)
    assert phase is Phase.STOPPED
    assert why is not None
    assert "killed" in why
    shown = subprocess.run([NORIA, "status", root], capture_output=True, text=True, check=True)
    assert "stopped at 20" in shown.stdout
    assert "`noria run` goes on with it" in shown.stdout
    again = start("run", str(root))
    out, err = again.communicate(timeout=100)
    assert again.returncode == 0, (out, err)
    assert said(root) == (Phase.FINISHED, None)


def test_one_that_was_asked_to_stop_says_so(ends: list[str], tmp_path: Path) -> None:
    process = start("copy", *ends)
    wait_until(lambda: any((tmp_path / "target").glob("0*")), "the first object")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert said(tmp_path / "job") == (Phase.STOPPED, "stopped on request")


def test_a_driver_of_another_machine_is_judged_by_its_age(tmp_path: Path) -> None:
    root = finish_job(tmp_path).root
    directory = JobDirectory.open(root)
    with directory.hold() as hold:
        assert directory.is_held(None)
        assert job.status(root).phase in (Phase.STARTING, Phase.STOPPED)
    epoch = root / f"epochs/{hold.epoch:010d}.json"
    assert not directory.is_held(1.0), "a driver of this machine has its lock"
    epoch.write_text(json.dumps({"host": "another", "pid": 1}))
    assert directory.is_held(1.0)
    assert not directory.is_held(60.0)
    assert not directory.is_held(None)


def test_a_verification_that_has_ended_is_not_under_way(ends: list[str], tmp_path: Path) -> None:
    root = tmp_path / "job"
    for command in (["copy", *ends], ["verify", str(root)]):
        process = start(*command)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, (out, err)
    directory = JobDirectory.open(root)
    verified = load_status(directory, VERIFY_STATUS_FILE)
    assert verified is not None
    assert verified.phase is Phase.VERIFYING
    assert time.time() - verified.updated_seconds < 60
    save_status(directory, verified, VERIFY_STATUS_FILE)
    assert said(root) == (Phase.FINISHED, None)
    (host,) = job.status(root).hosts.values()
    assert (host.workers, host.objects) == (0, OBJECTS)


def test_a_finished_job_that_is_run_again_says_when_it_ended(
    ends: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "job"
    finished = None
    for _ in range(2):
        process = start("copy", *ends)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, (out, err)
        assert json.loads(out)["finished_before"] == finished
        finished = job.status(root).updated_seconds
    (tmp_path / "source" / "new").write_bytes(b"new")
    shown = subprocess.run([NORIA, "run", root], capture_output=True, text=True, check=True)
    first, *_ = shown.stdout.splitlines()
    assert first.startswith("nothing was left to do: the job had finished at 20")
    assert f"`noria sync {root}` moves what is new" in first
    assert job.status(root).updated_seconds == finished


def test_one_that_was_planned_only_says_so(ends: list[str], tmp_path: Path) -> None:
    job_file = tmp_path / "job.toml"
    job_file.write_text(f'[source]\nurl = "{ends[0]}"\n[target]\nurl = "{ends[1]}"\n')
    subprocess.run([NORIA, "plan", job_file], check=True, capture_output=True, timeout=60)
    assert said(tmp_path / "job") == (Phase.STOPPED, "it is planned, and was not run yet")
    os.rename(tmp_path / "job" / "manifest", tmp_path / "elsewhere")
    phase, why = said(tmp_path / "job")
    assert phase is Phase.STOPPED
    assert why is not None
    assert "not finished" in why


def test_a_look_at_the_lock_keeps_no_driver_out(tmp_path: Path) -> None:
    directory = JobDirectory.open(finish_job(tmp_path).root)
    looking = open(directory.root / "driver.lock", "rb")  # noqa: SIM115 - the thread closes it
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.2, looking.close).start()
    with directory.hold(), pytest.raises(AnotherDriver):
        directory.hold()
