"""What one host cannot do ends no job: its work goes to others, and the host is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.moves import Move, plain
from tests.support.nodes import new_token, node_pair

MIB = 1024 * 1024
SPECS = [
    *(plain(f"medium/{n:02}", 3 * MIB) for n in range(60)),
    *(plain(f"small/{n:03}", 4_000) for n in range(100)),
]
SICK = {
    "a key that is refused": (
        {"AWS_SECRET_ACCESS_KEY": "of-somebody-else"},
        "access_denied",
    ),
    "a connection string that is none": (
        {"AZURE_STORAGE_CONNECTION_STRING": "of=somebody"},
        "configuration",
    ),
}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("trouble", SICK)
def test_a_sick_host_rests_and_the_others_do_its_work(
    make_move: Callable[..., Move], trouble: str
) -> None:
    variables, cause = SICK[trouble]
    move = make_move(SPECS, **new_token())
    job_file = move.job_file(run={"workers": 2, "heartbeat_timeout_seconds": 30})
    with node_pair(move.environment, second=variables) as nodes:
        report = move.noria("run", job_file, "--address", nodes.address)
    assert report["failed"] == 0
    move.expect_all_arrived()
    log = (move.job / "log" / "noria.log").read_text()
    assert "rests, and others get its work" in log
    assert cause in log


@pytest.mark.timeout(240)
def test_a_job_stops_if_no_host_is_left_and_says_why(make_move: Callable[..., Move]) -> None:
    move = make_move(SPECS, **new_token())
    job_file = move.job_file(run={"workers": 2})
    wrong = {**move.environment, "AWS_SECRET_ACCESS_KEY": "of-somebody-else"}
    move.noria("plan", job_file)
    with node_pair(wrong) as nodes:
        process = move.start("run", job_file, "--address", nodes.address, "--json")
        out, err = process.communicate(timeout=120)
    assert process.returncode == 3, (out, err)
    assert "(so on all 2 hosts)" in err + out
