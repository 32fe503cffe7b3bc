"""A store that is away for longer than any request is retried: the job waits, and nothing fails."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import Azurite, S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Fault, Operation, on, refuse, reset
from tests.support.moves import Move, plain
from tests.support.processes import wait_until

RETRY_SECONDS = 1.0
OUTAGE_SECONDS = 3 * RETRY_SECONDS
SPECS = [*(plain(f"small-{number:02}", 2000) for number in range(30)), plain("large", 20 << 20)]
TROUBLES = {
    "reset": reset(),
    "503": refuse(503, "SlowDown"),
    "500": refuse(500, "InternalError"),
}


@pytest.fixture
def far(seaweedfs: S3Server, azurite: Azurite) -> Iterator[dict[str, FaultProxy]]:
    with run_fault_proxy(azurite.endpoint) as source, run_fault_proxy(seaweedfs.endpoint) as target:
        yield {"source": source, "target": target}


@pytest.fixture
def move(make_move: Callable[..., Move], azurite: Azurite, far: dict[str, FaultProxy]) -> Move:
    there = azurite.connection_string.replace(azurite.endpoint, far["source"].endpoint)
    assert there != azurite.connection_string
    return make_move(
        SPECS,
        AWS_ENDPOINT_URL_S3=far["target"].endpoint,
        AZURE_STORAGE_CONNECTION_STRING=there,
    )


def planned(move: Move, **run: float) -> Path:
    job = move.job_file(run={"retry_seconds": RETRY_SECONDS, **run})
    move.noria("plan", job)
    return job


def waits_for(move: Move, store: str) -> bool:
    """What the run says of itself."""
    return store in move.noria("status", move.job)["silent_seconds"]


def finished(process: subprocess.Popen[str], move: Move) -> dict[str, Any]:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, (out, err)
    done: dict[str, Any] = json.loads(out)
    assert (done["failed"], done["reconciled"]) == (0, True)
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    return done


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_plan_does_not_fail_for_what_passes_at_its_first_request(
    move: Move, far: dict[str, FaultProxy], end: str, trouble: str
) -> None:
    far[end].add(Fault(match=on(), action=TROUBLES[trouble], times=2))
    move.noria("plan", move.job_file())


def test_a_store_that_is_busy_is_no_wrong_usage(move: Move, far: dict[str, FaultProxy]) -> None:
    far["target"].add(Fault(match=on(), action=TROUBLES["503"], times=None))
    assert "SlowDown" in move.noria("plan", move.job_file(), exit_code=3)["error"]


@pytest.mark.parametrize(
    ("end", "trouble"), [("source", "reset"), ("target", "503"), ("target", "500")]
)
def test_a_store_that_is_away_from_the_start_is_waited_for(
    move: Move, far: dict[str, FaultProxy], end: str, trouble: str
) -> None:
    job = planned(move)
    outage = Fault(match=on(), action=TROUBLES[trouble], times=None)
    far[end].add(outage)
    process = move.start("run", job, "--json")
    wait_until(lambda: waits_for(move, end), "a word about what the run waits for")
    time.sleep(OUTAGE_SECONDS)
    assert process.poll() is None
    far[end].remove(outage)
    finished(process, move)
    assert not waits_for(move, end)
    move.expect_rclone_finds_no_difference()


@pytest.mark.parametrize(
    ("end", "operation"), [("source", Operation.READ), ("target", Operation.PUT)]
)
def test_one_that_goes_away_in_the_middle_is_waited_for(
    move: Move, far: dict[str, FaultProxy], end: str, operation: Operation
) -> None:
    """Listings are answered: it is writes, or reads, that fail."""
    job = planned(move)
    outage = Fault(match=on(operation), action=reset(), times=None, skip=5)
    far[end].add(outage)
    process = move.start("run", job, "--json")
    wait_until(lambda: far[end].taken("reset") > 0, "the outage")
    time.sleep(2 * OUTAGE_SECONDS)
    far[end].remove(outage)
    finished(process, move)
    move.expect_rclone_finds_no_difference()


def test_one_that_stays_away_stops_the_run_and_no_entry_has_failed(
    move: Move, far: dict[str, FaultProxy]
) -> None:
    job = planned(move, outage_seconds=OUTAGE_SECONDS)
    outage = Fault(match=on(), action=reset(), times=None)
    far["target"].add(outage)
    stopped = move.noria("run", job, exit_code=3)
    assert "the target has answered nothing for 3 s" in stopped["stopped"]
    assert stopped["failed"] == 0
    assert stopped["outcomes"] == {}
    far["target"].remove(outage)
    finished(move.start("run", job, "--json"), move)


@pytest.mark.parametrize("trouble", ["503", "500"])
def test_what_failed_for_a_cause_that_may_pass_is_tried_again_by_the_next_run(
    move: Move, far: dict[str, FaultProxy], trouble: str
) -> None:
    job = planned(move, outage_seconds=0)
    writes = on(Operation.PUT, Operation.PART)
    outage = Fault(match=writes, action=TROUBLES[trouble], times=None, skip=10)
    far["target"].add(outage)
    failed = move.noria("run", job, exit_code=1)
    assert 0 < failed["failed"] < len(SPECS)
    far["target"].remove(outage)
    done = finished(move.start("run", job, "--json"), move)
    assert done["retried"] == failed["failed"]
    assert finished(move.start("run", job, "--json"), move)["retried"] == 0
    move.expect_rclone_finds_no_difference()


def test_what_another_try_alone_cannot_change_is_tried_again_on_request(move: Move) -> None:
    job = planned(move)
    in_the_way = move.seaweedfs.client()
    in_the_way.put_object(Bucket=move.bucket, Key="small-07", Body=b"somebody else's")
    failed = move.noria("run", job, exit_code=1)
    assert failed["causes"] == {"target_conflict": 1}
    in_the_way.delete_object(Bucket=move.bucket, Key="small-07")
    assert move.noria("run", job, exit_code=1)["retried"] == 0
    refused = move.start("retry", move.job, "--cause", "no_such_thing")
    _, err = refused.communicate(timeout=60)
    assert (refused.returncode, len(err.strip().splitlines())) == (2, 1), err
    done = finished(move.start("retry", move.job, "--cause", "target_conflict", "--json"), move)
    assert done["retried"] == 1
