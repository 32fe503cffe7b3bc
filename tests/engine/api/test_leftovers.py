"""Whole jobs on processes of this machine leave nothing of themselves in the program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import noria
from noria.benchmarks.servers import ROOT
from noria.engine.cluster.processes import descendants

ONE = {"workers": 1}
EXAMPLE = ROOT / "examples" / "first_copy.py"


@pytest.fixture
def config(tmp_path: Path) -> noria.JobConfig:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(50):
        (source / f"{number:02}").write_bytes(b"x" * number)
    ends = {"source": {"url": str(source)}, "target": {"url": str(target)}}
    return noria.job_config(ends)


def around() -> tuple[object, ...]:
    """Threads, children and signal handlers of this process."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
    handlers = [signal.getsignal(each) for each in signals]
    return {*threading.enumerate()}, descendants(os.getpid()), handlers


def move(config: noria.JobConfig, job: Path) -> list[int]:
    """All that can be done with a job; its exit codes."""
    with noria.start(job, overrides=ONE) as running:
        list(running)
    with noria.start_verify(job, overrides=ONE) as verifying:
        pass
    reports = running.result(), verifying.result(), noria.reconcile(job), noria.clean(job)
    assert noria.status(job).phase is noria.Phase.FINISHED
    assert not list(noria.failures(job))
    return [report.exit_code for report in reports]


def test_nothing_stays_and_nothing_is_printed(
    config: noria.JobConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Twice in one process: on the main thread, and on another."""
    before, codes = around(), list[list[int]]()
    job, other = tmp_path / "job", tmp_path / "other"
    plan = noria.plan(config, job)
    assert (plan.objects, plan.objects_to_move, plan.bytes) == (50, 50, 49 * 25)
    assert (plan.directory, plan.target_was_empty, plan.exit_code) == (job, True, 0)
    codes.append(move(config, job))
    assert around() == before

    def again() -> None:
        assert not noria.plan(config, other).target_was_empty
        codes.append(move(config, other))

    thread = threading.Thread(target=again)
    thread.start()
    thread.join()
    assert codes == [[0, 0, 0, 0]] * 2
    assert around() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_either(
    number: signal.Signals, config: noria.JobConfig, tmp_path: Path
) -> None:
    before, job = around(), tmp_path / "job"
    noria.plan(config, job)
    with noria.start(job, overrides=ONE) as running:
        signal.raise_signal(number)
    assert running.result().stopped == "stopped on request"
    assert around() == before
    assert noria.run(job, overrides=ONE).exit_code == 0


LOOKS_AT_MODULES = """
import json, runpy, sys
sys.argv[:] = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(name.partition(".")[0] for name in sys.modules)]))
"""


def test_the_example_copies_without_what_it_does_not_need(
    config: noria.JobConfig, tmp_path: Path
) -> None:
    ends = [config.source.url, config.target.url, str(tmp_path / "job")]
    ended = subprocess.run(
        [sys.executable, "-c", LOOKS_AT_MODULES, str(EXAMPLE), *ends],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    first, *_, checked, last = ended.stdout.splitlines()
    assert first == "50 of 50 objects will move: "
    assert checked == "50 objects were read back, 0 are damaged"
    code, modules = json.loads(last)
    assert code == 0
    assert {"azure", "boto3", "botocore", "ray", "typer", "IPython"}.isdisjoint(modules)
