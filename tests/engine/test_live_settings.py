"""What a driver makes of the records of its migration, look after look."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.engine.config.jobfile import RunConfig
from noria.engine.live_settings import LiveSettings
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import ControlKind, append
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import outermost

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


class Look:
    """A driver's settings on a clock of the test's."""

    def __init__(self, place: Path, **run: object) -> None:
        self.now = NOW
        self.settings = LiveSettings(
            place, RunConfig.model_validate(run), now=lambda: self.now, says=True
        )

    def bandwidth(self) -> float:
        return self.settings.look(0.0, quiet=False).rate("bandwidth")


def job_at(place: Path) -> Path:
    place.mkdir(parents=True)
    (place / "job.json").write_text("{}")
    return place


def test_records_hold_for_all_passes_and_ways_back(tmp_path: Path) -> None:
    root = job_at(tmp_path / "move-1")
    places = [
        root,
        job_at(root / "passes/000002"),
        job_at(root / "ways-back/000001"),
        job_at(root / "ways-back/000001/passes/000002"),
    ]
    append(JobDirectory(root), ControlKind.SET, {"bandwidth": 7e6})
    for place in places:
        assert outermost(place) == root
        assert Look(place).bandwidth() == 7e6
    assert not (places[1] / "control").exists()


def test_a_driver_follows_what_comes_and_what_is_over(tmp_path: Path) -> None:
    root = job_at(tmp_path / "job")
    look = Look(root, bandwidth=5e6)
    assert look.bandwidth() == 5e6
    append(
        JobDirectory(root), ControlKind.SET, {"bandwidth": 9e6}, until=NOW + timedelta(minutes=5)
    )
    assert look.bandwidth() == 9e6
    look.now += timedelta(minutes=5)
    assert look.bandwidth() == 5e6


def test_a_window_opens_while_a_job_runs(tmp_path: Path) -> None:
    window = {"from": "12:30", "to": "13:00", "bandwidth": "2MB/s"}
    look = Look(job_at(tmp_path / "job"), windows=[window])
    assert look.bandwidth() == float("inf")
    look.now += timedelta(minutes=30)
    assert look.bandwidth() == 2e6
    look.now += timedelta(minutes=30)
    assert look.bandwidth() == float("inf")


def test_a_drain_is_for_the_driver_that_lived_when_it_was_asked(tmp_path: Path) -> None:
    root = job_at(tmp_path / "job")
    look = Look(root)
    append(JobDirectory(root), ControlKind.DRAIN, by="ann@mover-1")
    look.bandwidth()
    assert look.settings.drain is not None
    assert look.settings.drain.by == "ann@mover-1"
    later = Look(root)
    later.bandwidth()
    assert later.settings.drain is None


def test_a_damaged_record_ends_no_run_and_begins_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = job_at(tmp_path / "job")
    look = Look(root)
    append(JobDirectory(root), ControlKind.SET, {"bandwidth": 7e6})
    path = root / "control/000001.json"
    whole = path.read_bytes()
    path.write_bytes(b"{")
    with caplog.at_level(logging.ERROR):
        assert look.bandwidth() == look.bandwidth() == float("inf")
    (said,) = [line for line in caplog.messages if "000001.json" in line]
    assert "nothing that was asked for later is followed" in said
    with pytest.raises(JobDirectoryError, match=r"000001\.json"):
        Look(root)
    path.write_bytes(whole)
    assert look.bandwidth() == 7e6


def test_a_driver_that_begins_says_what_is_not_as_the_job_file_has_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = job_at(tmp_path / "job")
    append(JobDirectory(root), ControlKind.PAUSE, by="ann@mover-1", reason="a patch", at=NOW)
    append(JobDirectory(root), ControlKind.SET, {"workers": 3}, by="bob@desk", at=NOW)
    with caplog.at_level(logging.WARNING):
        look = Look(root, bandwidth=5e6)
        look.bandwidth()
        append(JobDirectory(root), ControlKind.RESUME)
        look.bandwidth()
    assert caplog.messages == [
        "workers=3 by bob@desk since 2026-11-28 12:00 UTC",
        "paused by ann@mover-1 since 2026-11-28 12:00 UTC (a patch): nothing new is begun",
        "resumed",
    ]
