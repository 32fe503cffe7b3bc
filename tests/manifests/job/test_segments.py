"""Seals in segments: each counts once, wherever it lies and whoever was killed at what."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noria.manifests.errors import JobDirectoryError, passing_causes
from noria.manifests.job import seals
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.reopening import reopen
from noria.manifests.job.results import write_receipts
from noria.manifests.job.seals import (
    SEGMENT_SEALS,
    Seal,
    compact_seals,
    compact_shards,
    read_seals,
    read_seals_by_shard,
    seal,
    supersede_seal,
)
from noria.manifests.model import LeaseEnd, LeaseKind, LeaseResult, Outcome, ReceiptSummary
from tests.manifests.job.test_receipts import LANDED, table
from tests.support.killed_lines import killed_after

EPOCH = 1_000_000_000
MANY = SEGMENT_SEALS + 3


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {"id": "j"})


def result(shard: int, *, first: int = 0, end: int = 9, attempt: int = EPOCH + 1) -> LeaseResult:
    return LeaseResult(
        shard=shard,
        kind=LeaseKind.OBJECTS,
        first=first,
        end=end,
        attempt=attempt,
        generation=0,
        how=LeaseEnd.FINISHED,
        result_name=f"results/{shard}-{first}-{attempt}",
        result_sha256="0" * 64,
        summary=ReceiptSummary(outcomes={Outcome.TRANSFERRED: end - first}, bytes_moved=shard),
    )


def seal_many(directory: JobDirectory, shards: Iterable[int] = range(MANY)) -> list[Seal]:
    return [seal(directory, result(shard)) for shard in shards]


def single(directory: JobDirectory) -> list[str]:
    return [name for name in directory.names("sealed") if "/segments/" not in name]


def segments(directory: JobDirectory) -> list[str]:
    return list(directory.names("sealed/segments"))


def as_first_edition(directory: JobDirectory) -> None:
    """Lay single seals as the first editions did, in a folder for each shard."""
    for sealed, name in zip(read_seals(directory), single(directory), strict=True):
        folder = directory.path(f"sealed/{sealed.shard:08d}")
        folder.mkdir(exist_ok=True)
        file = f"{sealed.kind}-{sealed.generation:06d}-{sealed.first:08d}.json"
        directory.path(name).rename(folder / file)


def test_many_seals_of_a_thousand_shards_become_one_file(directory: JobDirectory) -> None:
    written = seal_many(directory, [*range(MANY), *range(1500, 1500 + SEGMENT_SEALS - 1)])
    compact_seals(directory)
    (name,) = segments(directory)
    data = directory.read(name)
    assert data is not None
    assert name == f"sealed/segments/00000/{hashlib.sha256(data).hexdigest()}.json"
    assert len(single(directory)) == SEGMENT_SEALS - 1, "too few for one of their own"
    assert list(read_seals(directory)) == written
    by_shard = list(read_seals_by_shard(directory))
    assert by_shard == [[each] for each in written]
    assert [list(read_seals(directory, shard=each.shard)) for each in written] == by_shard


def test_seals_that_come_later_are_read_with_a_segment(directory: JobDirectory) -> None:
    written = seal_many(directory)
    compact_seals(directory)
    more = seal(directory, result(5, first=9, end=12))
    assert list(read_seals(directory, shard=5)) == [written[5], more]
    assert list(read_seals(directory)) == [*written[:6], more, *written[6:]]
    compact_seals(directory)
    assert len(segments(directory)) == 1
    assert len(single(directory)) == 1


def test_a_job_of_the_first_edition_is_read_and_compacted(directory: JobDirectory) -> None:
    written = seal_many(directory, [*range(MANY), 1_234, 12_345])
    as_first_edition(directory)
    assert list(read_seals(directory)) == written
    assert list(read_seals(directory, shard=1_234)) == [written[-2]]
    compact_seals(directory)
    assert len(segments(directory)) == 1
    left = [folder for folder in directory.folders("sealed") if re.search("/[0-9]{8}$", folder)]
    assert left == ["sealed/00001234", "sealed/00012345"], "of thousands with too few"
    assert list(read_seals(directory)) == written


@pytest.mark.parametrize("first_edition", [False, True])
def test_a_compaction_that_is_killed_at_any_line_loses_and_doubles_none(
    directory: JobDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_edition: bool
) -> None:
    monkeypatch.setattr(seals, "SEGMENT_SEALS", 2)
    written = seal_many(directory, range(3))
    if first_edition:
        as_first_edition(directory)
    job = JobDirectory(tmp_path / "killed")
    left = set()
    for changes in itertools.count():
        shutil.rmtree(job.root, ignore_errors=True)
        shutil.copytree(directory.root, job.root)
        if not killed_after(changes, job.root, lambda: compact_seals(job)):
            break
        left.add((len(single(job)), len(segments(job))))
        assert list(read_seals(job)) == written, f"after {changes} changes"
        more = seal_many(job, range(900, 902))
        compact_seals(job)
        assert list(read_seals(job, shard=1)) == [written[1]]
        assert list(read_seals(job)) == [*written, *more], f"after {changes} changes"
        assert single(job) == []
    assert {(3, 0), (0, 1)} < left, "files of their own, segments"


def test_a_reader_finds_each_seal_once_while_they_are_compacted(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "SEGMENT_SEALS", 5)
    written = seal_many(directory, range(8))
    over = threading.Event()

    def compact() -> None:
        for turn in range(20):
            seal_many(directory, range(turn, turn + 5))
            compact_shards(directory, "sealed", 0)
        over.set()

    thread = threading.Thread(target=compact)
    thread.start()
    reads = 0
    while not over.is_set() or not reads:
        found = list(read_seals(directory))
        assert found[:8] == written
        assert len({sealed.shard for sealed in found}) == len(found)
        assert list(read_seals(directory, shard=7)) == [written[7]]
        reads += 1
    thread.join()


def test_a_seal_in_two_places_must_be_one(directory: JobDirectory) -> None:
    written = seal_many(directory)
    compact_seals(directory)
    seal(directory, result(4))
    assert list(read_seals(directory)) == written
    seal(directory, replace(result(4), result_sha256="1" * 64))
    with pytest.raises(JobDirectoryError, match="two seals of results/4"):
        list(read_seals(directory))


@pytest.mark.parametrize("compacted", [False, True])
def test_the_seal_of_the_newest_attempt_counts(directory: JobDirectory, compacted: bool) -> None:
    """A driver that lost its job seals once more before it notices."""
    written = seal_many(directory)
    newer = seal(directory, result(4, attempt=2 * EPOCH + 1))
    if compacted:
        compact_seals(directory)
    seal(directory, result(4, attempt=EPOCH + 7))
    seal(directory, result(4, end=5, attempt=EPOCH + 8))
    assert list(read_seals(directory, shard=4)) == [newer]
    assert list(read_seals(directory)) == [*written[:4], newer, *written[5:]]


@pytest.mark.parametrize("compacted", [False, True])
def test_of_what_two_drivers_have_cut_differently_the_newer_attempt_counts(
    directory: JobDirectory, compacted: bool
) -> None:
    """What the overtaken driver has sealed beyond that is done again."""
    seal_many(directory, [*range(4), *range(5, MANY)])
    newer = seal(directory, result(4, first=3, attempt=2 * EPOCH + 1))
    for first, end, attempt in [(0, 4, 7), (5, 9, 8), (8, 12, 9)]:
        seal(directory, result(4, first=first, end=end, attempt=EPOCH + attempt))
    apart = seal(directory, result(4, first=12, end=14, attempt=EPOCH + 10))
    if compacted:
        compact_seals(directory)
        assert segments(directory)
    assert list(read_seals(directory, shard=4)) == [newer, apart]
    (found,) = [each for each in read_seals_by_shard(directory) if each[0].shard == 4]
    assert found == [newer, apart]


def test_parts_and_what_completes_them_do_not_overlap(directory: JobDirectory) -> None:
    parts, assembled = replace(result(4), kind=LeaseKind.PARTS), replace(result(4, end=0))
    assembled = replace(assembled, kind=LeaseKind.ASSEMBLE, attempt=2 * EPOCH + 1)
    written = [seal(directory, each) for each in (assembled, parts)]
    written.append(seal(directory, replace(parts, generation=1, attempt=3 * EPOCH + 1)))
    assert list(read_seals(directory)) == written


def test_what_one_driver_has_sealed_twice_is_left_to_be_refused(directory: JobDirectory) -> None:
    """It is damage: an attempt is live at units that no other one is at."""
    written = [seal(directory, result(4)), seal(directory, result(4, first=5, attempt=EPOCH + 2))]
    assert list(read_seals(directory)) == written


def test_a_client_of_nfs_finds_what_others_have_compacted(
    directory: JobDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has seen that there were no segments, and looks again once it has opened the parent."""
    absent: set[Path] = set()
    real_scan = os.scandir

    def scan(folder: Path) -> Any:
        if folder in absent:
            raise FileNotFoundError(folder)
        try:
            found = real_scan(folder)
        except FileNotFoundError:
            absent.add(folder)
            raise
        absent.difference_update([each for each in absent if each.parent == folder])
        return found

    written = seal_many(directory, [0])
    with monkeypatch.context() as client:
        client.setattr(os, "scandir", scan)
        assert list(read_seals(directory, shard=0)) == written
        assert absent
    written += seal_many(directory, range(1, MANY))
    compact_seals(directory)
    with monkeypatch.context() as client:
        client.setattr(os, "scandir", scan)
        assert list(read_seals(directory, shard=4)) == [written[4]]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_seal_that_was_taken_back_does_not_count_until_a_newer_one(
    directory: JobDirectory, compacted: bool
) -> None:
    written = seal_many(directory)
    if compacted:
        compact_seals(directory)
    supersede_seal(directory, written[4], 2 * EPOCH)
    rest = [*written[:4], *written[5:]]
    assert list(read_seals(directory)) == rest
    assert list(read_seals(directory, shard=4)) == []
    seal(directory, result(4, attempt=EPOCH + 9))
    assert list(read_seals(directory)) == rest, "that of a driver that lost its job comes late"
    compact_seals(directory)
    assert list(read_seals(directory)) == rest
    again = seal(directory, result(4, attempt=2 * EPOCH + 1))
    assert list(read_seals(directory, shard=4)) == [again]
    assert list(read_seals(directory)) == [*written[:4], again, *written[5:]]


def test_what_earlier_editions_took_back_may_be_sealed_again(directory: JobDirectory) -> None:
    (taken_back,) = seal_many(directory, [4])
    as_first_edition(directory)
    name = "sealed/00000004/objects-000000-00000000.json"
    place = directory.path(f"superseded/{2 * EPOCH:018d}/{name}")
    place.parent.mkdir(parents=True)
    directory.path(name).rename(place)
    assert list(read_seals(directory)) == []
    again = seal(directory, result(4, attempt=2 * EPOCH + 1))
    assert again != taken_back
    assert list(read_seals(directory)) == list(read_seals(directory, shard=4)) == [again]


def test_failures_in_a_segment_are_tried_again(directory: JobDirectory) -> None:
    seal_many(directory, range(1, MANY))
    failed = replace(LANDED, row=1, outcome=Outcome.FAILED, cause="unavailable", level=None)
    receipts = table([replace(LANDED, row=0), failed])
    name = "results/00000/00000000/a.parquet"
    digest, summary = write_receipts(directory, name, receipts)
    one = replace(result(0, end=2), result_name=name, result_sha256=digest, summary=summary)
    sealed = seal(directory, one)
    compact_seals(directory)
    assert single(directory) == []
    assert reopen(directory, sealed, 2 * EPOCH, passing_causes()) == 1
    assert len(list(read_seals(directory))) == MANY - 1
    assert reopen(directory, sealed, 2 * EPOCH, passing_causes()) == 1, "it may be repeated"
    assert len(list(read_seals(directory))) == MANY - 1


@pytest.mark.parametrize("shard", [None, 4], ids=["all", "one shard"])
@pytest.mark.parametrize("hurt", ["changed", "cut", "another thousand", "another name"])
def test_a_segment_that_is_damaged_is_refused(
    directory: JobDirectory, hurt: str, shard: int | None
) -> None:
    seal_many(directory)
    compact_seals(directory)
    path = directory.path(segments(directory)[0])
    data = path.read_bytes()
    if hurt == "another thousand":
        if shard is not None:
            pytest.skip("it is not looked for there")
        path.parent.rename(path.parent.with_name("00007"))
    elif hurt == "another name":
        path.rename(path.with_name(f"{'0' * 64}.json"))
    else:
        path.write_bytes(data[:-1] if hurt == "cut" else data.replace(b'"end": 9', b'"end": 8', 1))
    with pytest.raises(JobDirectoryError, match=r"segments/.* is damaged; restore it"):
        list(read_seals(directory, shard=shard))
