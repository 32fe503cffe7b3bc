"""Priorities that people set: which are in force, what is refused, and who gets a worker then."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.engine.config.refused_settings import WrongSettings
from noria.engine.fleet.fair_share import FairShare
from noria.engine.fleet.priorities import LivePriorities, heeded, set_priorities
from noria.engine.fleet.priority_requests import PrioritizedFleet
from noria.manifests.job.control import ControlKind, append, read
from noria.manifests.job.directory import JobDirectory

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
NOTED = {"genomes": 0, "images": 5, "not-es.2": 0}


@pytest.fixture
def files(tmp_path: Path) -> JobDirectory:
    entries = [{"name": name, "priority": priority} for name, priority in NOTED.items()]
    facts = {"schema": 1, "datasets": entries}
    (tmp_path / "fleet.json").write_text(json.dumps(facts))
    return JobDirectory(tmp_path)


def test_the_last_word_that_is_not_over_counts(files: JobDirectory) -> None:
    hour = timedelta(hours=1)
    append(files, ControlKind.SET, {"priority.genomes": 3}, by="ann@a")
    append(files, ControlKind.SET, {"priority.genomes": 9}, until=NOW + hour, by="bob@b")
    append(files, ControlKind.SET, {"priority.images": -2, "priority.not-es.2": 1})
    records = read(files)
    found = set_priorities(records, NOW)
    assert {name: each.priority for name, each in found.items()} == {
        "genomes": 9,
        "images": -2,
        "not-es.2": 1,
    }
    assert found["genomes"].by == "bob@b"
    assert set_priorities(records, NOW + hour)["genomes"].priority == 3
    append(files, ControlKind.CLEAR, {"priority.images": None})
    assert set_priorities(read(files), NOW).keys() == {"genomes", "not-es.2"}
    append(files, ControlKind.CLEAR, {})
    assert set_priorities(read(files), NOW) == {}


def test_a_run_hears_each_change_once(files: JobDirectory) -> None:
    now = [NOW]
    live = LivePriorities(files, NOTED, now=lambda: now[0])
    assert live.look() == {}
    assert [live.of(name) for name in NOTED] == [0, 5, 0]
    until = NOW + timedelta(minutes=1)
    append(files, ControlKind.SET, {"priority.images": 7, "priority.gone": 1}, until=until)
    assert live.look() == {"images": 7}
    assert live.look() == {}
    live.note_heeded()
    assert heeded(files) == 1
    now[0] = until
    assert live.look() == {"images": 5}


def test_what_is_wrong_is_named_all_at_once_and_nothing_is_recorded(files: JobDirectory) -> None:
    fleet = PrioritizedFleet(files.root)
    wrong = ["bandwidth=1MB/s", "priority.image=1", "priority.genomes=high", "priority.images"]
    with pytest.raises(WrongSettings) as refused:
        fleet.set_from([*wrong, "priority.genomes=1001"], seconds=None, reason=None)
    lines = refused.value.lines
    assert len(lines) == 5
    assert "of many datasets, priority.NAME is set" in lines[0]
    assert "did you mean priority.images?" in lines[1]
    assert "a whole number from -1000 to 1000" in lines[2]
    assert "write it as priority.images=NUMBER" in lines[3]
    assert not (files.root / "control").exists()


def test_what_is_in_force_says_who_gave_it(files: JobDirectory) -> None:
    fleet = PrioritizedFleet(files.root)
    heard = fleet.set_from(["priority.genomes=8"], seconds=None, reason="due today")
    assert (heard.is_driven, heard.is_heeded) == (False, False)
    by = heard.record.by
    assert fleet.in_force() == {
        "images": (5, "from the job file"),
        "genomes": (8, f"by {by}"),
    }
    fleet.clear([], reason=None)
    assert fleet.in_force() == {"images": (5, "from the job file")}


def test_a_worker_goes_over_to_a_dataset_that_is_raised() -> None:
    share = FairShare(1)
    for name in ("a", "b"):
        share.enter(name, priority=0, weight=1)
        share.ask(name)
    assert share.grant() == "a"
    assert share.take_back() is None, "both have the same right"
    share.prioritize("b", 1)
    assert share.take_back() == "a"
    share.give_back("a", taken=True)
    assert share.grant() == "b"
    share.prioritize("unknown", 3)
