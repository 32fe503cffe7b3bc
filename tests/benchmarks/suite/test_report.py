"""What a suite leaves: a document with its goals, every run as a line, plots."""

from __future__ import annotations

import csv
from pathlib import Path

from noria.benchmarks.suite.goals import check_goals
from noria.benchmarks.suite.peers import JUICEFS, NORIA, RCLONE
from noria.benchmarks.suite.report import Results, write_results
from noria.benchmarks.suite.rounds import Contest, ToolRun
from noria.benchmarks.suite.workloads import Workload
from tests.support.fake_runs import contest, usage

WORKLOAD = Workload(
    name="small", kind="small", title="one small object", objects=(("object", 4096),)
)


def results() -> Results:
    runs = contest(
        WORKLOAD,
        **{
            NORIA: [usage(), usage(cpu_seconds=2e-4), usage(cpu_seconds=3e-4)],
            RCLONE: [usage(), usage(cpu_seconds=4e-4), usage(cpu_seconds=4e-4)],
            JUICEFS: [usage(), usage(cpu_seconds=5e-4)],
        },
    )
    void = ToolRun(
        workload="small",
        tool=JUICEFS,
        round=2,
        objects=1,
        bytes=4096,
        usage=usage(),
        trouble="0 objects | none",
    )
    shown = Contest(workload=WORKLOAD, tools=runs.tools, runs=(*runs.runs, void))
    return Results(
        command="bench",
        machine={"date": "today", "CPU": "one | two"},
        versions={"Noria": "0"},
        contests=[shown],
        goals=check_goals({"small": shown}, 0),
        seconds={"small": 60.0},
    )


def test_the_document_has_goals_tables_and_what_was_void(tmp_path: Path) -> None:
    document = write_results(results(), tmp_path / "new", "day").read_text()
    assert (
        "| small | CPU an object over the better peer's | <= 0.80 | 0.62 (0.50 to 0.75) | met |"
        in document
    )
    assert (
        "| small | objects/s over the better peer's | >= 1.20 | 1.00 (1.00 to 1.00) | **not met** |"
        in document
    )
    assert f"| {RCLONE} | 400 (400 to 400) | 0.62 (0.50 to 0.75) |" in document
    assert f"| {JUICEFS} | 500 | 0.40 |" in document
    assert "| 1, 1 void |" in document
    assert "Void, round 2: 0 objects | none" in document
    assert "| CPU | one \\| two |" in document
    assert "told apart by: invented." in document


def test_all_files_that_it_names_are_there(tmp_path: Path) -> None:
    document = write_results(results(), tmp_path, "day").read_text()
    written = {path.name for path in tmp_path.iterdir()} - {"day.md"}
    assert written == {"day-runs.csv", "day-cpu-per-object.png", "day-wall.png"}
    assert all(f"({name})" in document for name in written)
    assert all(
        (tmp_path / name).read_bytes()[:4] == b"\x89PNG" for name in written if ".png" in name
    )


def test_every_run_is_a_line(tmp_path: Path) -> None:
    write_results(results(), tmp_path, "day")
    with (tmp_path / "day-runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert [row["round"] for row in rows if row["counts"] == "True"] == ["1", "2", "1", "2", "1"]
    assert rows[-1]["trouble"] == "0 objects | none"


def test_a_repeat_replaces_what_is_there(tmp_path: Path) -> None:
    first = write_results(results(), tmp_path, "day").read_text()
    assert write_results(results(), tmp_path, "day").read_text() == first
