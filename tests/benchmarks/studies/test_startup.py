"""Ten objects of two revisions: when the first one lies there, and what the table says."""

from __future__ import annotations

import time
from pathlib import Path

from noria.benchmarks.studies.startup import FirstObject, StartUpRun, table
from noria.benchmarks.suite.revisions import NEW, OLD
from tests.support.fake_runs import usage


def test_the_first_object_is_seen_and_no_draft_of_it(tmp_path: Path) -> None:
    first = FirstObject(folder=tmp_path, names=frozenset({"000000", "000001"}))
    with first.watched():
        (tmp_path / ".000000.draft").touch()
        time.sleep(0.05)
        of_draft = first.seconds
        (tmp_path / "000001").touch()
        time.sleep(0.05)
    assert of_draft is None
    assert first.seconds is not None
    assert first.seconds >= 0.05


def test_a_folder_that_stays_empty_has_no_first_object(tmp_path: Path) -> None:
    first = FirstObject(folder=tmp_path, names=frozenset({"000000"}))
    with first.watched():
        pass
    assert first.seconds is None


def test_the_table_pairs_rounds_and_leaves_out_the_first() -> None:
    seconds = {OLD: [90.0, 4.0, 8.0], NEW: [90.0, 1.0, 3.0]}
    runs = [
        StartUpRun(
            side=side,
            round=number,
            usage=usage(cpu_seconds=one),
            first_object_seconds=one / 2,
        )
        for side, values in seconds.items()
        for number, one in enumerate(values)
    ]
    lines = {line[:28].strip(): line[28:].split() for line in table(runs)}
    assert lines["CPU s"] == ["6.00", "2.00", "0.31", "(0.25", "to", "0.38)"]
    assert lines["first object s"][:2] == ["3.00", "1.00"]
    assert lines["CPU s, tool"] == ["6.00", "2.00"]
