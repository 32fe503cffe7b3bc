"""Two Ray nodes, started with `ray start` on this machine, run one job; one of them may die."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.moves import Move, kill_one, plain
from tests.support.nodes import new_token, node_pair, workers_of
from tests.support.processes import wait_until

MIB = 1024 * 1024
SPECS = [
    plain("huge", 200 * MIB + 1),
    *(plain(f"medium/{n:02}", 3 * MIB) for n in range(20)),
    *(plain(f"small/{n:03}", 4_000) for n in range(200)),
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("fate", ["both live", "one dies"])
def test_two_nodes_share_a_job(make_move: Callable[..., Move], fate: str) -> None:
    access = new_token()
    move = make_move(SPECS, **access)
    job_file = move.job_file(
        plan={"part_bytes": 16 * MIB, "segment_bytes": 48 * MIB},
        run={"workers": 2, "streams": 2, "heartbeat_timeout_seconds": 15},
    )
    with node_pair(move.environment) as nodes:
        process = move.start("run", job_file, "--address", nodes.address, "--json")
        wait_until(lambda: any(move.job.glob("sealed/*/*.json")), "a first seal", seconds=90)
        wait_until(
            lambda: len(workers_of(nodes.head)) + len(workers_of(nodes.worker)) == 2,
            "a worker on each node",
        )
        assert workers_of(nodes.worker), "the second node works too"
        if fate == "one dies":
            kill_one(nodes.worker, "raylet/raylet")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (out, err)
        assert "Traceback" not in err
        move.expect_all_arrived()
        assert nodes.head.poll() is None, "a cluster that was joined is left running"
