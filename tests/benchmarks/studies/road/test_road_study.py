"""The grid, its contenders, and a heat that is run, stopped, measured and drawn."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from noria.benchmarks.studies.road.__main__ import contenders, main
from noria.benchmarks.studies.road.cells import (
    LINES_MB,
    RATES_MB,
    ROUND_TRIPS_MS,
    SCHEMES,
    grid,
    objects_of,
)
from noria.benchmarks.suite.distant_peers import WORKS
from noria.benchmarks.suite.workloads import MIB
from tests.support.null_objects import needs_compiler


def test_the_whole_grid_has_every_route_once() -> None:
    titles = [cell.title for cell in grid(ROUND_TRIPS_MS, RATES_MB, LINES_MB, SCHEMES)]
    assert len(titles) == len(set(titles)) == 4 * 3 * 2 * 2
    assert titles[0] == "2 ms, 10 MB/s a connection, http"


@pytest.mark.parametrize("work", WORKS)
def test_every_work_has_objects_of_its_kind(work: str) -> None:
    objects = objects_of(work, 2 * 10**9, 1000)
    assert len({key for key, _ in objects}) == len(objects)
    total = sum(size for _, size in objects)
    if work == "small":
        assert (len(objects), total) == (1000, 1000 * 4096)
    else:
        assert total == pytest.approx(2e9, rel=0.15)
    assert (len(objects) == 1) == (work == "huge")


def test_there_is_no_other_work() -> None:
    with pytest.raises(KeyError):
        objects_of("other", 1, 1)


@pytest.mark.parametrize("work", WORKS)
def test_contenders_have_names_of_their_own(work: str) -> None:
    tools = contenders(work, ["noria", "fixed", "peers", "defaults"], [8, 32])
    assert len({tool.name for tool in tools}) == len(tools)
    swept = {tool.name for tool in tools}
    assert {tool.name for tool in contenders(work, ["best"], [])} <= swept


@needs_compiler
@pytest.mark.slow
def test_a_heat_leaves_a_table_a_row_for_each_run_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "--round-trips 4 --rates 20 --lines 50 --works bulk --contenders best --to-end"
    words += " --gigabytes 0.6 --to"
    monkeypatch.setattr(sys, "argv", ["road", *words.split(), str(tmp_path)])
    assert main() == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert {row["outcome"] for row in rows} == {"ended"}
    assert len(rows) >= 2, "msc is not installed everywhere"
    for row in rows:
        assert int(row["bytes"]) >= 2 * 256 * MIB
        assert 0 < float(row["whole_speed"]) <= 51  # heads and TLS are on the line too
        assert float(row["tail_ratio"]) > 0
        assert float(row["cpu_seconds_per_gb"]) > 0
    document = (tmp_path / "README.md").read_text()
    assert "## bulk: 4 ms, 20 MB/s a connection, line 50 MB/s, http" in document
    assert (tmp_path / "bulk-http.png").stat().st_size > 10_000
    assert (tmp_path / "curves.csv").read_text().count("\n") > 10
