"""Seals as a new run finds them: each file read once, and lost uploads worth nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from noria.engine.replay import enter_seals
from noria.engine.status import Phase
from noria.engine.totals import Totals
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.seals import seal
from noria.manifests.job.uploads import write_upload
from noria.manifests.model import LeaseEnd, LeaseKind, LeaseResult, Outcome, ReceiptSummary, Upload

NOTHING = ReceiptSummary()


def ended(**outcomes: int) -> ReceiptSummary:
    return ReceiptSummary(outcomes={Outcome(name): count for name, count in outcomes.items()})


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def add_seal(
    directory: JobDirectory,
    shard: int,
    kind: LeaseKind = LeaseKind.OBJECTS,
    *,
    first: int = 0,
    end: int = 1,
    generation: int = 0,
    summary: ReceiptSummary = NOTHING,
) -> None:
    result = LeaseResult(
        shard=shard,
        kind=kind,
        first=first,
        end=end,
        attempt=1,
        generation=generation,
        how=LeaseEnd.FINISHED,
        result_name="r",
        result_sha256="0",
        summary=summary,
    )
    seal(directory, result)


def new_books() -> Totals:
    return Totals("j", objects_total=100, bytes_total=1000)


def bytes_done(totals: Totals) -> int:
    return totals.status(Phase.MOVING, now=1, started=0, unix=0, shards={}).bytes_done


def test_nothing_is_sealed_at_first(directory: JobDirectory) -> None:
    totals = new_books()
    sealed = enter_seals(directory, totals)
    assert (list(sealed.spans), sealed.generations, totals.sums) == ([], {}, NOTHING)


def test_spans_and_sums_of_all_shards(directory: JobDirectory) -> None:
    add_seal(directory, 0, first=0, end=3, summary=ended(TRANSFERRED=3))
    add_seal(directory, 0, first=5, end=7, summary=ended(TRANSFERRED=1, FAILED=1))
    add_seal(directory, 11, first=0, end=4, summary=ended(TRANSFERRED=4))
    totals = new_books()
    sealed = enter_seals(directory, totals)
    found = [(span.shard, span.first, span.end) for span in sealed.spans]
    assert found == [(0, 0, 3), (0, 5, 7), (11, 0, 4)]
    assert sealed.generations == {}
    assert totals.sums == ended(TRANSFERRED=8, FAILED=1)


def test_parts_of_an_upload_that_was_lost_do_not_count(directory: JobDirectory) -> None:
    add_seal(
        directory,
        2,
        LeaseKind.PARTS,
        first=0,
        end=4,
        generation=0,
        summary=ReceiptSummary(part_bytes=400),
    )
    add_seal(
        directory,
        2,
        LeaseKind.PARTS,
        first=4,
        end=6,
        generation=1,
        summary=ReceiptSummary(part_bytes=200),
    )
    add_seal(
        directory,
        3,
        LeaseKind.PARTS,
        first=0,
        end=4,
        generation=0,
        summary=ReceiptSummary(part_bytes=40),
    )
    upload = Upload(row=0, upload_id="u", txid="t", part_bytes=1, etag="e")
    write_upload(directory, 3, 2, upload)
    write_upload(directory, 4, 1, upload)
    totals = new_books()
    sealed = enter_seals(directory, totals)
    assert [(span.shard, span.first, span.end) for span in sealed.spans] == [(2, 4, 6)]
    assert sealed.generations == {2: 1, 3: 2, 4: 1}
    assert bytes_done(totals) == 200


def test_a_generation_without_an_upload_counts_by_its_seal(directory: JobDirectory) -> None:
    write_upload(directory, 2, 0, Upload(row=0, upload_id="u", txid="t", part_bytes=1, etag="e"))
    add_seal(
        directory,
        2,
        LeaseKind.PARTS,
        first=0,
        end=4,
        generation=0,
        summary=ReceiptSummary(part_bytes=400),
    )
    add_seal(directory, 2, LeaseKind.ASSEMBLE, end=0, generation=1, summary=ended(SOURCE_MISSING=1))
    totals = new_books()
    sealed = enter_seals(directory, totals)
    assert [span.kind for span in sealed.spans] == [LeaseKind.ASSEMBLE]
    assert sealed.generations == {2: 1}
    assert bytes_done(totals) == 0


def test_every_seal_is_read_once(directory: JobDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in range(20):
        add_seal(directory, shard, summary=ended(TRANSFERRED=1))
    reads: Counter[str] = Counter()
    read = JobDirectory.read

    def counted(self: JobDirectory, name: str) -> bytes | None:
        reads[name] += 1
        return read(self, name)

    monkeypatch.setattr(JobDirectory, "read", counted)
    assert len(enter_seals(directory, new_books()).spans) == 20
    assert len(reads) == 20
    assert set(reads.values()) == {1}


def test_an_assembled_object_counts_once(directory: JobDirectory) -> None:
    add_seal(directory, 2, LeaseKind.PARTS, end=4, summary=ReceiptSummary(part_bytes=400))
    landed = ReceiptSummary(
        outcomes={Outcome.TRANSFERRED: 1}, outcome_bytes={Outcome.TRANSFERRED: 400}
    )
    add_seal(directory, 2, LeaseKind.ASSEMBLE, end=0, summary=landed)
    totals = new_books()
    assert len(enter_seals(directory, totals).spans) == 2
    assert bytes_done(totals) == 400
