"""A run that is watched from its first second to its last: its phases, and what it never tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from noria.benchmarks.servers import ROOT, free_ports
from noria.engine.status import Phase

OBJECTS = 1500
NAME = "name-of-an-object"
ORDER = [Phase.PLANNING, Phase.STARTING, Phase.MOVING, Phase.RECONCILING, Phase.FINISHED]


def asked(url: str) -> str | None:
    """What is answered. None: nobody listens, yet or any more."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode())
    except OSError:
        return None


def begun(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """A `noria copy` from one folder to another, with its page at `port`."""
    ends = (str(folder / "source"), str(folder / "target"), f"--job={folder}/job")
    program = "from noria.__main__ import main; main()"
    address = f"--metrics-address=127.0.0.1:{port}"
    return subprocess.Popen(
        [sys.executable, "-c", program, "copy", *ends, "--workers=1", address, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def watched_copy(folder: Path, *options: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The documents and the metrics of a `noria copy` of small files, read as fast as they come."""
    source, (port,) = folder / "source", free_ports(1)
    source.mkdir()
    for number in range(OBJECTS):
        (source / f"{NAME}-{number}").write_bytes(bytes(100))
    copy = begun(folder, port, *options)
    documents: list[dict[str, Any]] = []
    metrics: list[str] = []
    try:
        deadline = time.monotonic() + 90
        while copy.poll() is None and time.monotonic() < deadline:
            told = asked(f"http://127.0.0.1:{port}/status.json")
            served = asked(f"http://127.0.0.1:{port}/metrics")
            # Each is seen to its own end: the command may be over between the two.
            if told is not None and '"progress"' in told:
                documents.append(json.loads(told))
            if served is not None and "noria_job_phase{" in served:
                metrics.append(served)
            time.sleep(0.05)
        assert copy.returncode == 0
    finally:
        copy.kill()
        copy.wait()
    return documents, metrics


def test_a_run_is_seen_from_its_plan_to_its_end_and_names_nothing(tmp_path: Path) -> None:
    documents, metrics = watched_copy(tmp_path, "--deadline=2099-01-01T00:00:00Z")
    phases = [Phase(each["phase"]) for each in documents]
    met = [phase for n, phase in enumerate(phases) if n == 0 or phases[n - 1] is not phase]
    assert met == [phase for phase in ORDER if phase in met]
    assert {Phase.PLANNING, Phase.MOVING, Phase.FINISHED} <= set(met)
    last = documents[-1]
    assert last["progress"]["objects_done"] == OBJECTS
    assert last["progress"]["done"] == 1.0
    assert last["deadline"]["state"] == "met"
    assert last["history"]["points"]
    assert last["name"] == "job"
    assert NAME not in json.dumps(documents)
    assert not any(NAME in each for each in metrics)
    assert "noria_reconciled 1.0" in metrics[-1]
    assert 'noria_memory_bytes{host="' in metrics[-1]
    assert "\nnoria_journal_duration_seconds_count " in metrics[-1]
    assert any("\nnoria_job_directory_free_bytes " in each for each in metrics)
    assert 'noria_job_phase{phase="planning"} 1.0' in metrics[0]


def test_counters_are_not_at_zero_while_a_job_is_taken_up_again(tmp_path: Path) -> None:
    """Prometheus would take what was done before for done once more."""
    _, metrics = watched_copy(tmp_path)
    (port,) = free_ports(1)
    again = begun(tmp_path, port)
    counted = []
    while again.poll() is None:
        told = asked(f"http://127.0.0.1:{port}/metrics") or ""
        counted += [line for line in told.splitlines() if line.startswith("noria_sent_bytes_total")]
        time.sleep(0.05)
    assert again.returncode == 0
    expected = {line for line in metrics[-1].splitlines() if line.startswith("noria_sent_bytes_t")}
    assert set(counted) <= expected
