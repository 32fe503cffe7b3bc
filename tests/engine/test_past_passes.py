"""What a pass did comes back from the history as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from noria.engine.convergence import Amount, PassSummary
from noria.engine.past_passes import pass_of, passes_of
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Fact, RecordKind

FACTS: dict[str, Fact] = {
    "pass": 2,
    "started": 1_700_000_000.0,
    "ended": 1_700_000_360.5,
    "listing_seconds": 100.0,
    "moving_seconds": 200.125,
    "reconciling_seconds": 50.0,
    "bytes_moved": 9,
    "failed": 1,
    "oldest_unmoved": 1_600_000_000.0,
    "reconciled": True,
    "manifest": "ab" * 32,
    "new_objects": 1,
    "new_bytes": 2,
    "changed_objects": 3,
    "changed_bytes": 4,
    "gone_objects": 5,
    "gone_bytes": 6,
    "unchanged_objects": 7,
    "unchanged_bytes": 2**62,
}
"""As engine/pass_records.py writes them."""
SUMMARY = PassSummary(
    number=2,
    started_seconds=1_700_000_000.0,
    ended_seconds=1_700_000_360.5,
    listing_seconds=100.0,
    moving_seconds=200.125,
    reconciling_seconds=50.0,
    new=Amount(objects=1, bytes=2),
    changed=Amount(objects=3, bytes=4),
    gone=Amount(objects=5, bytes=6),
    unchanged=Amount(objects=7, bytes=2**62),
    oldest_unmoved_seconds=1_600_000_000.0,
    bytes_moved=9,
    failed=1,
)


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def end(directory: JobDirectory, **facts: Fact) -> None:
    history.append(directory, RecordKind.PASS_ENDED, FACTS | facts)


def test_a_pass_comes_back(directory: JobDirectory) -> None:
    end(directory)
    assert passes_of(history.read(directory)) == [SUMMARY]


def test_what_a_pass_did_not_find_is_nothing(directory: JobDirectory) -> None:
    """The first one moves everything, and compares with nothing."""
    found = {
        name: fact
        for name, fact in FACTS.items()
        if not name.startswith(("changed_", "gone_", "unchanged_"))
    }
    history.append(directory, RecordKind.PASS_ENDED, found | {"oldest_unmoved": None})
    nothing = Amount()
    assert passes_of(history.read(directory)) == [
        replace(
            SUMMARY, changed=nothing, gone=nothing, unchanged=nothing, oldest_unmoved_seconds=None
        )
    ]


def test_passes_come_in_order_and_what_was_recorded_twice_counts_once(
    directory: JobDirectory,
) -> None:
    history.append(directory, RecordKind.PLANNED, {"pass": 2})
    end(directory, **{"pass": 3})
    end(directory)
    end(directory, failed=0)
    found = passes_of(history.read(directory))
    assert found == [replace(SUMMARY, failed=0), replace(SUMMARY, number=3)]


@pytest.mark.parametrize(
    "missing", [name for name in FACTS if name not in ("reconciled", "manifest")]
)
def test_a_fact_of_another_form_is_named(directory: JobDirectory, missing: str) -> None:
    record = history.append(directory, RecordKind.PASS_ENDED, FACTS | {missing: "many"})
    with pytest.raises(JobDirectoryError, match=f"history/{record.number:06d}.json"):
        pass_of(record)


@pytest.mark.parametrize("missing", ["pass", "started", "ended", "moving_seconds", "failed"])
def test_a_fact_that_is_missing_is_named(directory: JobDirectory, missing: str) -> None:
    kept = {name: fact for name, fact in FACTS.items() if name != missing}
    record = history.append(directory, RecordKind.PASS_ENDED, kept)
    with pytest.raises(JobDirectoryError, match="does not say what its pass did"):
        pass_of(record)


@pytest.mark.parametrize("number", [-1, -0.5, 1e300])
def test_numbers_that_no_pass_has_are_refused(directory: JobDirectory, number: float) -> None:
    record = history.append(directory, RecordKind.PASS_ENDED, FACTS | {"moving_seconds": number})
    with pytest.raises(JobDirectoryError, match="does not say what its pass did"):
        pass_of(record)
