"""`noria status --hosts`: which host is ill is to be seen at a glance, on 80 columns too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noria.engine.status import HostStatus, JobStatus, Phase
from noria.engine.terminal.report import print_status, print_status_by_host, status_summary

WELL = HostStatus(workers=4, bytes_per_second=12.3e6, objects=1_234_567)
ILL = HostStatus(
    workers_lost=2,
    objects=12,
    errors={"throttled": 24, "unavailable": 1_180},
    retries={"unavailable": 1_100},
    barred="its clock is 20 min 0 s ahead of the store's: set it (NTP)",
)
STATUS = JobStatus(
    job="7f3a",
    phase=Phase.MOVING,
    updated_seconds=0,
    objects_total=10,
    bytes_total=10,
    hosts={"node-10": WELL, "node-2": ILL},
)


def summary_of(status: JobStatus) -> dict[str, Any]:
    return status_summary(status, [], Path("job"))


def test_each_host_has_a_line_and_errors_have_their_causes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_status_by_host(summary_of(STATUS))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [
        "workers  lost       rate    objects  errors  retries  host",
        "      0     2      0 B/s         12   1,204    1,100  node-2 (barred)",
        "      4     0  12.3 MB/s  1,234,567       0        0  node-10",
        "errors of node-2: 1,180 unavailable, 24 throttled",
    ]


def test_a_barred_host_is_told_without_being_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    print_status(summary_of(STATUS))
    out = capsys.readouterr().out
    assert f"host node-2 rests: {ILL.barred}\n" in out
    assert "node-10" not in out
    print_status(summary_of(replace(STATUS, phase=Phase.FINISHED)))
    assert "host node-2 rested at the end: " in capsys.readouterr().out


def test_a_job_that_knows_no_host_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_status_by_host(summary_of(replace(STATUS, hosts={})))
    assert capsys.readouterr().out.endswith("no host is known: no worker has come up yet\n")


def test_figures_of_a_large_job_leave_room_for_a_name_on_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    large = replace(
        ILL, workers=64, bytes_per_second=9.99e9, objects=10**9, retries={"unavailable": 10**6}
    )
    name = "move-1-x7k2p-movers-worker-00001"
    print_status_by_host(summary_of(replace(STATUS, hosts={name: large})))
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if line.endswith(f"{name} (barred)")
    ]
    assert line.index(name) <= 80 - len("node-000 (barred)"), "a longer one runs on, whole"
