"""A job on a Ray cluster that is paused: all hand back, a driver comes and goes, and it goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from noria.engine.job import status
from tests.support.moves import Move, plain
from tests.support.nodes import head_node, new_token, workers_of
from tests.support.processes import wait_until

FOLLOW_SECONDS = 10.0
OBJECTS = 60
SIZE = 100_000


@pytest.mark.timeout(150)
def test_a_pause_on_ray_outlives_its_driver(make_move: Callable[..., Move]) -> None:
    access = new_token()
    move = make_move([plain(f"{number:03}", SIZE) for number in range(OBJECTS)], **access)
    job_file = move.job_file(run={"workers": 1, "heartbeat_timeout_seconds": 8, "streams": 4})
    with head_node(move.environment, cpus=1) as head:
        run = ("run", job_file, "--address", head.address, "--json")
        first = move.start(*run, "--bandwidth", "500kB/s")
        wait_until(lambda: any(move.job.rglob("journal/**/*.journal")), "a journal", seconds=60)
        wait_until(lambda: status(move.job).objects_done > 4, "objects that landed", seconds=60)

        asked = time.monotonic()
        heard = move.noria("pause", move.job, "--reason", "the source is patched")
        assert "the driver heeds it" in heard["said"]
        wait_until(lambda: not status(move.job).shards.get("leased"), "what is held is handed back")
        assert time.monotonic() - asked < FOLLOW_SECONDS
        done = landed(move)
        assert len(done) < OBJECTS
        assert len(workers_of(head.process)) == 1, "a worker stays"

        os.killpg(first.pid, signal.SIGKILL)
        first.communicate()
        second = move.start(*run)  # and no bandwidth
        try:
            wait_until(
                lambda: status(move.job).workers == 1 and status(move.job).paused is not None,
                "a driver that is paused from its beginning",
                seconds=60,
            )
            assert landed(move) == done, "nothing was begun in the pause"
            time.sleep(2)
            assert landed(move) == done
            move.noria("resume", move.job)
            out, err = second.communicate(timeout=60)
        finally:
            second.kill()
            second.communicate()
    ended = json.loads(out)
    assert (second.returncode, ended["failed"], ended["reconciled"]) == (0, 0, True), err
    move.expect_all_arrived()


def landed(move: Move) -> set[str]:
    """Keys at the target, as it says itself."""
    pages = move.seaweedfs.client().get_paginator("list_objects_v2").paginate(Bucket=move.bucket)
    return {item["Key"] for page in pages for item in page.get("Contents", [])}
