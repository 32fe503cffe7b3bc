"""What a pass did comes back from the history as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from noria.engine.convergence import Amount, PassSummary
from noria.engine.pass_records import pass_facts, pass_of, passes_of
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind

SUMMARY = PassSummary(
    number=2,
    started_seconds=1_700_000_000.25,
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


def end(directory: JobDirectory, summary: PassSummary) -> None:
    history.append(directory, RecordKind.PASS_ENDED, pass_facts(summary))


@pytest.mark.parametrize("summary", [SUMMARY, replace(SUMMARY, oldest_unmoved_seconds=None)])
def test_a_pass_comes_back(directory: JobDirectory, summary: PassSummary) -> None:
    end(directory, summary)
    assert passes_of(history.read(directory)) == [summary]


def test_passes_come_in_order_and_what_was_recorded_twice_counts_once(
    directory: JobDirectory,
) -> None:
    third, again = replace(SUMMARY, number=3), replace(SUMMARY, failed=0)
    history.append(directory, RecordKind.PLANNED, {"pass": 2})
    for summary in (third, SUMMARY, again):
        end(directory, summary)
    assert passes_of(history.read(directory)) == [again, third]


@pytest.mark.parametrize("missing", pass_facts(SUMMARY))
def test_a_record_that_lacks_a_fact_is_named(directory: JobDirectory, missing: str) -> None:
    facts = pass_facts(SUMMARY)
    for other in ({}, {missing: "many"}):
        kept = {name: fact for name, fact in facts.items() if name != missing} | other
        record = history.append(directory, RecordKind.PASS_ENDED, kept)
        with pytest.raises(JobDirectoryError, match=f"history/{record.number:06d}.json"):
            pass_of(record)


@pytest.mark.parametrize("number", [-1, -0.5, 1e300])
def test_numbers_that_no_pass_has_are_refused(directory: JobDirectory, number: float) -> None:
    facts = pass_facts(SUMMARY) | {"moving_seconds": number}
    record = history.append(directory, RecordKind.PASS_ENDED, facts)
    with pytest.raises(JobDirectoryError, match="does not say what its pass did"):
        pass_of(record)
