"""Machines that are taken back with notice: what a month on spot brings besides the matrix."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.manifests.job.directory import ATTEMPTS_PER_EPOCH
from tests.faults.cells import PART, ProxiedMove, Scene, Stage
from tests.support.fault_proxy.rules import Fault, Operation, cap, on, stall
from tests.support.moves import plain
from tests.support.nodes import drain, new_token, node_pair, workers_of
from tests.support.processes import wait_until

SEED = 1
SPOT_SECONDS = 30.0
"""From the notice to the end of a spot machine."""
PARTS = 12


@pytest.fixture
def scene(stage: Stage, tmp_path: Path) -> Iterator[Scene]:
    with stage.scene(SEED, tmp_path) as scene:
        yield scene


def one_large(scene: Scene, **run: object) -> ProxiedMove:
    """One object of a dozen parts, and small ones, on two workers with one stream each."""
    return scene.move(
        [
            plain("large", PARTS * PART),
            *(plain(f"small/{n:03}", scene.dice.randrange(1, 50_000)) for n in range(60)),
        ],
        plan={"part_bytes": PART, "chunk_bytes": PART // 5, "segment_bytes": PARTS * PART // 2},
        run={"workers": 2, "streams": 1, "leases": 1, "journal_seconds": 0.1, **run},
    )


def parts_sent(proxied: ProxiedMove) -> list[int]:
    """Numbers of the parts that the target took in, once for each time."""
    return [
        int(exchange.request.query["partNumber"])
        for exchange in proxied.target.seen(Operation.PART, name="/large")
        if exchange.happened
    ]


@pytest.mark.timeout(120)
def test_a_stopped_run_ends_within_the_notice_of_a_spot_machine(scene: Scene) -> None:
    """With a target that does not answer any more, and all defaults."""
    proxied = one_large(scene)
    hang = Fault(match=on(Operation.PART, name="/large"), action=stall(600), skip=3, times=None)
    proxied.target.add(hang)
    process = proxied.move.start("run", proxied.job_file, "--json")
    wait_until(lambda: hang.hits > 0 or process.poll() is not None, "a part that hangs")
    assert process.poll() is None, process.communicate()
    asked_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    took = time.monotonic() - asked_at
    assert process.returncode == 3, (out, err)
    assert took < SPOT_SECONDS, f"it took {took:.1f} s"
    proxied.target.clear()
    proxied.expect_all(proxied.run(), kills=1)


def done_bytes(seals: list[dict[str, Any]], what: str) -> int:
    return sum(seal["summary"][what] for seal in seals)


@pytest.mark.timeout(240)
def test_a_node_that_is_drained_hands_its_leases_back(scene: Scene) -> None:
    """Its worker is told, sends what it has begun, and gets nothing more; nothing is sent twice."""
    proxied = one_large(scene)
    proxied.target.add(
        Fault(match=on(Operation.PART, name="/large"), action=cap(PART / 5), times=None),
    )
    access = new_token()
    proxied.move.environment.update(access)
    with node_pair(proxied.move.environment) as nodes:
        process = proxied.move.start("run", proxied.job_file, "--address", nodes.address, "--json")
        wait_until(lambda: len(workers_of(nodes.worker)) == 1, "a worker on the second node")
        wait_until(lambda: proxied.target.written_bytes_so_far() >= PART, "parts on their way")
        drain(nodes.worker, nodes.address, access)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    status = json.loads((proxied.move.job / "status.json").read_text())
    assert status["workers_lost"] == 0
    seals = [json.loads(seal.read_text()) for seal in proxied.move.job.glob("sealed/*/*-parts-*")]
    granted = max(seal["attempt"] for seal in seals) % ATTEMPTS_PER_EPOCH
    assert granted > len(seals), "a lease went on where its first worker had left it"
    assert done_bytes(seals, "bytes_moved") == done_bytes(seals, "part_bytes"), "I12"
    assert sorted(parts_sent(proxied)) == list(range(1, PARTS + 1)), "each part once"
    proxied.expect_all(json.loads(out), kills=1)
