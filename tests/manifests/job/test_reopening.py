"""A seal with failures that are tried again is taken back; all else that it holds stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from noria.manifests.errors import passing_causes
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.journals import encode_receipts, read_journals
from noria.manifests.job.receipts import receipt_batch
from noria.manifests.job.reopening import reopen
from noria.manifests.job.results import write_receipts
from noria.manifests.job.seals import Seal, read_seals, seal
from noria.manifests.model import LeaseEnd, LeaseKind, LeaseResult, Outcome, Receipt
from tests.manifests.job.test_receipts import LANDED

ATTEMPT = 2_000_000_000


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def landed(row: int) -> Receipt:
    return replace(LANDED, row=row)


def failed(row: int, cause: str) -> Receipt:
    return replace(LANDED, row=row, outcome=Outcome.FAILED, cause=cause, level=None)


def sealed(
    directory: JobDirectory, *receipts: Receipt, kind: LeaseKind = LeaseKind.OBJECTS
) -> Seal:
    name = "results/00000000/objects-0-1.parquet"
    table = pa.Table.from_batches([receipt_batch(receipts)])
    digest, summary = write_receipts(directory, name, table)
    return seal(
        directory,
        LeaseResult(
            shard=0,
            kind=kind,
            first=0,
            end=len(receipts),
            attempt=1,
            generation=0,
            how=LeaseEnd.FINISHED,
            result_name=name,
            result_sha256=digest,
            summary=summary,
        ),
    )


def test_what_may_pass_is_open_again_and_the_rest_is_done(directory: JobDirectory) -> None:
    one = sealed(directory, landed(0), failed(1, "unavailable"), failed(2, "source_changed"))
    assert reopen(directory, one, ATTEMPT, passing_causes()) == 1
    assert list(read_seals(directory)) == []
    assert read_journals(directory, 0, 0, 3).final_rows() == {0, 2}
    (name,) = directory.names(f"superseded/{ATTEMPT:018d}/sealed")
    assert name.endswith(f"/00000/00000000-objects-000000-00000000-{one.attempt:018d}.json")
    assert list(directory.names("sealed")) == []


@pytest.mark.parametrize("cause", ["source_changed", "target_refused", "target_conflict"])
def test_what_another_try_cannot_change_stays_sealed(directory: JobDirectory, cause: str) -> None:
    one = sealed(directory, landed(0), failed(1, cause))
    assert reopen(directory, one, ATTEMPT, passing_causes()) == 0
    assert list(read_seals(directory)) == [one]
    assert reopen(directory, one, ATTEMPT, [cause]) == 1
    assert read_journals(directory, 0, 0, 2).final_rows() == {0}


def test_journals_that_were_kept_do_not_end_it_again(directory: JobDirectory) -> None:
    """They know of uploads left open, and of the failure that is tried again."""
    old = directory.journal(0, 1)
    old.append(encode_receipts([landed(0), failed(1, "target_conflict")]))
    old.close()
    one = sealed(directory, landed(0), failed(1, "target_conflict"))
    reopen(directory, one, ATTEMPT, ["target_conflict"])
    assert read_journals(directory, 0, 0, 2).final_rows() == {0}
    again = directory.journal(0, ATTEMPT + 1)
    again.append(encode_receipts([landed(1)]))
    again.close()
    assert read_journals(directory, 0, 0, 2).final_rows() == {0, 1}


def test_dying_after_the_journal_leaves_the_seal_in_force(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sealed(directory, landed(0), failed(1, "throttled"))

    def die(name: str, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(directory, "put", die)
    with pytest.raises(KeyboardInterrupt):
        reopen(directory, one, ATTEMPT, passing_causes())
    monkeypatch.undo()
    assert list(read_seals(directory)) == [one]
    assert reopen(directory, one, ATTEMPT + 10, passing_causes()) == 1
    assert read_journals(directory, 0, 0, 2).final_rows() == {0}


def test_a_failure_that_may_pass_and_was_not_sealed_is_not_final(directory: JobDirectory) -> None:
    journal = directory.journal(0, 1)
    journal.append(encode_receipts([failed(0, "unavailable"), failed(1, "target_refused")]))
    journal.close()
    assert read_journals(directory, 0, 0, 2).final_rows() == {1}


def test_which_causes_may_pass() -> None:
    assert passing_causes() == {
        "throttled",
        "unavailable",
        "short_body",
        "digest_refused",
        "outcome_unknown",
        "upload_lost",
        "source_unreadable",
        "internal",
    }
