"""SIGKILL in the middle of a multipart object: the next run is right, and sends little twice.

What reaches the target is counted by a proxy in front of it, not by Noria.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.moves import Move, expect_no_worker_left, kill_one, plain
from tests.support.processes import (
    GATEWAY,
    LOCAL_WORKER,
    RAY_WORKER,
    descendants,
    wait_until,
)

MIB = 1024 * 1024
PART = 8 * MIB
STREAMS = 4
WORKERS = 2
LARGE = 20 * PART + 3
SPECS = [
    plain("large/one", LARGE),
    plain("large/two", LARGE),
    *(plain(f"small/{n:03}", 5_000 + n) for n in range(300)),
]
TOTAL = sum(spec.size for spec in SPECS)
PLAN = {"part_bytes": PART}
RUN = {"streams": STREAMS, "workers": WORKERS, "journal_seconds": 0.2}
EXIT_CODES = {LOCAL_WORKER: (0,), RAY_WORKER: (0,), GATEWAY: (3,)}
"""One worker of several is replaced; without its cluster a run has to stop. Where Ray loses a
process of its own it may get to the end all the same."""
JOURNAL_BYTES = PART * STREAMS
"""At most this was sent in one journal interval of a worker: every stream ends a part."""


@pytest.fixture
def counter(seaweedfs: S3Server) -> Iterator[FaultProxy]:
    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def move(make_move: Callable[..., Move], counter: FaultProxy) -> Move:
    move = make_move(SPECS, AWS_ENDPOINT_URL_S3=counter.endpoint)
    move.job_file(plan=PLAN, run=RUN)
    return move


def in_the_middle(counter: FaultProxy, start: int) -> Callable[[], bool]:
    return lambda: counter.written_bytes_so_far() - start > LARGE // 2


def has_moved(counter: FaultProxy, process: subprocess.Popen[str], enough: int) -> bool:
    return process.poll() is not None or counter.written_bytes_so_far() > enough


@pytest.mark.parametrize(
    ("title", "options"),
    [
        (LOCAL_WORKER, []),
        ("driver", []),
        (RAY_WORKER, ["--ray"]),
        ("driver", ["--ray"]),
        (GATEWAY, ["--ray"]),
        ("raylet/raylet", ["--ray"]),
        ("gcs_server", ["--ray"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "".join(value) or "local",
)
def test_whatever_is_killed_every_object_is_right(
    move: Move, counter: FaultProxy, title: str, options: list[str]
) -> None:
    process = move.start("run", move.job.with_suffix(".toml"), "--json", *options)
    wait_until((move.job / "epochs" / "0000000002.json").exists, "the plan")
    begun = counter.written_bytes_so_far()
    wait_until(in_the_middle(counter, begun), "half of a large object")
    family = list(descendants(process.pid))
    kill_one(process, title)
    out, err = process.communicate(timeout=100)
    expect_no_worker_left(family)
    if title == "driver":
        assert process.returncode == -signal.SIGKILL
    else:
        assert json.loads(out)["complete"] is (process.returncode == 0)
        assert process.returncode in EXIT_CODES.get(title, (0, 3)), err
    assert "Traceback" not in err
    done = move.noria("run", move.job)
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    move.expect_all_arrived()
    again = counter.written_bytes_so_far() - begun - TOTAL
    lost = 1 if title in (LOCAL_WORKER, RAY_WORKER) else WORKERS
    in_flight = STREAMS * PART
    assert again <= lost * (in_flight + JOURNAL_BYTES), f"{again} bytes were sent again"
    if title in (LOCAL_WORKER, RAY_WORKER, GATEWAY, "driver"):
        assert done["bytes_moved_at_least"], "nobody knows what was sent after the last report"
    assert TOTAL <= done["bytes_moved"] <= TOTAL + again


def test_bytes_moved_are_what_crossed_the_wire_over_a_stop(move: Move, counter: FaultProxy) -> None:
    """Nothing ended without a word: the sum of two runs is exact."""
    process = move.start("run", move.job.with_suffix(".toml"), "--json")
    wait_until((move.job / "epochs" / "0000000002.json").exists, "the plan")
    begun = counter.written_bytes_so_far()
    wait_until(in_the_middle(counter, begun), "half of a large object")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 3, (out, err)
    done = move.noria("run", move.job)
    assert not done["bytes_moved_at_least"]
    assert done["bytes_moved"] == counter.written_bytes_so_far() - begun


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("times", "options"), [(10, []), (3, ["--ray"])], ids=["local", "ray"])
def test_everything_killed_at_random_again_and_again_and_no_difference(
    move: Move, counter: FaultProxy, times: int, options: list[str]
) -> None:
    seed = 77
    dice = random.Random(seed)
    kills = 0
    for _ in range(times):
        process = move.start("run", move.job.with_suffix(".toml"), "--json", *options)
        enough = counter.written_bytes_so_far() + int(dice.random() * TOTAL / 20)
        wait_until(partial(has_moved, counter, process, enough), "some progress")
        if process.poll() is not None:
            break
        family = list(descendants(process.pid))
        victims = [process.pid, *(pid for pid, _ in family)]
        dice.shuffle(victims)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        expect_no_worker_left(family)
        kills += 1
    done = move.noria("run", move.job.with_suffix(".toml"))
    assert kills == times, f"seed {seed}: the move ended after {kills} kills, which says too little"
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    move.expect_all_arrived()
    move.expect_rclone_finds_no_difference()
