"""What reconcile finds, against a comparison in plain Python, and in how much memory."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job import receipt_check, reconcile
from noria.manifests.job.reconcile import DIFFERENCES_FILE, Reconciliation
from noria.manifests.job.target_check import CanaryPattern, check_target
from noria.manifests.model import LeaseKind, Outcome, ShardKind
from noria.workers.stores.canaries import CANARY_BYTES, CANARY_NAME
from tests.support.fabricated_jobs import FabricatedJob, listing_batches
from tests.support.rows import Row, all_rows, numbered, plan

KIB = 1024
HUGE = 256 * KIB
"""Larger than a segment: it has a shard of its own."""
CANARY = ".noria-probe-0123456789ab/"
LETTERS = ["a", "b", "~", "/", "\x01", "%", "é", "\uffee", "😀", "\u2028"]
"""Above the BMP, UTF-16 has another order than UTF-8."""

Difference = tuple[str, str | None, str | None]


def options_of(shard_objects: int) -> Any:
    return plan(
        part_bytes=64 * KIB,
        chunk_bytes=64 * KIB,
        segment_bytes=128 * KIB,
        shard_objects=shard_objects,
    )


def name(rng: random.Random) -> str:
    start = rng.choice(["", "", "project-0001/study-/", "dir/"])
    return start + "".join(rng.choices(LETTERS, k=rng.randint(1, 4)))


def random_job(root: Path, rng: random.Random) -> FabricatedJob:
    keys = {name(rng) for _ in range(rng.choice([0, 1, 7, 60, 60]))}
    rows: list[Row] = [
        {"key": key, "size": HUGE if rng.random() < 0.03 else rng.randint(0, 3)} for key in keys
    ]
    return FabricatedJob.plan(root, rows, options_of(rng.randint(1, 25)))


def end(rng: random.Random, entry: Row, names: Sequence[str], wrong: float) -> Row:
    """A receipt of an entry: of any outcome, and now and then of something else."""
    receipt: Row = {"key": entry["key"], "size": entry["size"], "target_etag": rng.choice("ef")}
    if rng.random() < 0.2:
        receipt["outcome"] = rng.choice([each.value for each in Outcome])
    if rng.random() < 0.2:
        receipt["target_key"] = rng.choice([*names, name(rng), entry["key"] + "x"])
    if rng.random() < wrong:
        receipt["size"] = entry["size"] + 1
    if rng.random() < wrong:
        receipt["key"] = rng.choice([*names, name(rng)])
    if rng.random() < wrong:
        receipt["target_etag"] = None
    return receipt


def settle(job: FabricatedJob, rng: random.Random, wrong: float) -> None:
    """Seals of most rows; with `wrong`, also such as no driver writes."""
    names = [row["key"] for row in all_rows(job.manifest)]
    for shard in job.manifest.shards():
        entries = job.manifest.read_shard(shard.shard).to_pylist()
        ends = [end(rng, entry, names, wrong) for entry in entries]
        if shard.kind is ShardKind.PARTS:
            job.seal_parts(shard.shard, shard.units)
            for generation in range(rng.choice([0, 1, 1, 2]) if wrong else 1):
                job.seal(shard.shard, ends, LeaseKind.ASSEMBLE, generation)
            continue
        cuts = sorted({0, len(ends), *rng.choices(range(len(ends) + 1), k=2)})
        for first, last in pairwise(cuts):
            if rng.random() >= wrong / 2:
                span = [{"row": row, **ends[row]} for row in range(first, last)]
                job.seal(shard.shard, span, first_edition=rng.random() < 0.5)
        if rng.random() < wrong:
            more = {"row": len(ends), **ends[0]}
            job.seal(shard.shard, [more, {"key": name(rng), "size": 1}])
        if rng.random() < wrong:
            job.seal(shard.shard, [end(rng, entries[0], names, wrong)], LeaseKind.ASSEMBLE)
    if rng.random() < wrong:
        job.seal(job.manifest.shard_count + 3, [{"key": name(rng), "size": 1}])


def landed_of(receipts: Iterable[Row]) -> list[Row]:
    return [each for each in receipts if Outcome(each["outcome"]).landed]


def random_listing(job: FabricatedJob, rng: random.Random, wrong: float) -> list[Row]:
    listed: list[Row] = []
    for receipt in landed_of(job.receipts):
        row = {
            "key": receipt["target_key"],
            "size": receipt["size"],
            "etag": receipt["target_etag"],
        }
        if rng.random() < wrong:
            row["size"] += 1
        if rng.random() < wrong:
            row["etag"] = rng.choice(["other", None])
        listed += [row] * rng.choices([1, 0, 2], [1, wrong, wrong / 4])[0]
    for _ in range(rng.randint(0, 30) if wrong else 0):
        odd = [name(rng), name(rng) + "/", "", CANARY, f"{CANARY}a\nb", f"x{CANARY}", "/"]
        listed.append({"key": rng.choice(odd), "size": rng.choice([0, 0, 1, 7, 8]), "etag": None})
    if rng.random() < 0.5:
        rng.shuffle(listed)
    return listed


def at_the_receipts(job: FabricatedJob) -> Iterator[Difference]:
    """Entries without one receipt, receipts without an entry."""
    entries = {
        (shard.shard, row): entry
        for shard in job.manifest.shards()
        for row, entry in enumerate(job.manifest.read_shard(shard.shard).to_pylist())
    }
    own: dict[tuple[int, int], list[str]] = {place: [] for place in entries}
    for receipt in job.receipts:
        place = receipt["shard"], receipt["row"]
        entry = entries.get(place, {"key": None, "size": None})
        if entry["key"] == receipt["key"]:
            own[place].append(receipt["target_key"])
        if (entry["key"], entry["size"]) != (receipt["key"], receipt["size"]):
            yield "unplanned", receipt["key"], receipt["target_key"]
    for place, targets in own.items():
        if not targets:
            yield "unsettled", entries[place]["key"], None
        if len(targets) > 1:
            yield "unplanned", entries[place]["key"], min(targets, key=str.encode)


def by_name(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    names: dict[str, list[Row]] = {}
    for row in rows:
        names.setdefault(row[column], []).append(row)
    return names


def at_the_target(job: FabricatedJob, listed: Sequence[Row]) -> Iterator[Difference]:
    landed, at_target = by_name(landed_of(job.receipts), "target_key"), by_name(listed, "key")
    for target_key, receipts in landed.items():
        keys = [each["key"] for each in receipts]
        if len(keys) > 1:
            yield "merged", min(keys, key=str.encode), target_key
        if target_key not in at_target:
            yield from (("missing", key, target_key) for key in keys)
        for each, row in product(receipts, at_target.get(target_key, ())):
            if (row["size"], row["etag"]) != (each["size"], each["target_etag"]):
                yield "differing", each["key"], target_key
    for row in listed:
        key, size = row["key"], row["size"]
        if key not in landed and (size > 0 or (key and not key.endswith("/"))):
            is_canary = size <= CANARY_BYTES and re.fullmatch(f"(?s:{CANARY_NAME})", key)
            yield "canary" if is_canary else "extra", None, key


def differences_by_hand(job: FabricatedJob, listed: Sequence[Row]) -> Counter[Difference]:
    """All that reconcile has to find, from dictionaries."""
    return Counter([*at_the_receipts(job), *at_the_target(job, listed)])


def reconciled(
    job: FabricatedJob,
    listed: Sequence[Row],
    prefix: str = "",
    *,
    batch_rows: int = 1_000,
    scratch: Path | None = None,
) -> Reconciliation:
    return reconcile.reconcile(
        job.directory,
        job.manifest,
        listing_batches(listed, prefix, batch_rows),
        target_prefix=prefix,
        extra_allowed=False,
        canary=CANARY_NAME,
        canary_bytes=CANARY_BYTES,
        scratch=scratch,
    )


def differences_found(job: FabricatedJob) -> Counter[Difference]:
    table = pq.read_table(job.directory.path(DIFFERENCES_FILE))
    assert table.schema.names == ["what", "key", "target_key"]
    return Counter(zip(*(column.to_pylist() for column in table.columns), strict=True))


def expect(job: FabricatedJob, listed: Sequence[Row], found: Reconciliation) -> None:
    by_hand = differences_by_hand(job, listed)
    assert differences_found(job) == by_hand
    kinds = Counter[str]()
    for (what, _, _), count in by_hand.items():
        kinds[what] += count
    canaries = kinds.pop("canary", 0)
    assert found.differences == kinds
    assert found.reconciled == (not kinds)
    assert (found.canaries, found.entries) == (canaries, job.manifest.objects)
    receipts = job.receipts
    counts = (len(receipts), len(landed_of(receipts)), len(listed))
    assert (found.receipts, found.landed, found.listed) == counts


def make_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    """Ranges of a few rows, so that a small job has many, and some that are cut again."""
    rows = rng.choice([1, 5, 50])
    monkeypatch.setattr(receipt_check, "STRETCH_ROWS", rows)
    monkeypatch.setattr(reconcile, "STRETCH_ROWS", rows)
    monkeypatch.setattr(reconcile, "RANGES_MAX", rng.choice([2, 7, 1_000]))
    monkeypatch.setattr(reconcile, "RANGE_BYTES", rng.choice([64, 300, 1 << 20]))


@pytest.mark.parametrize("seed", range(60))
def test_it_finds_what_dictionaries_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = random.Random(seed)
    job = random_job(tmp_path / "job", rng)
    wrong = rng.choice([0.0, 0.05, 0.3])
    settle(job, rng, wrong)
    listed = random_listing(job, rng, wrong)
    make_small(monkeypatch, rng)
    prefix, batch_rows = rng.choice(["", "p/", "p/é😀/"]), rng.choice([1, 7, 1_000])
    found = reconciled(job, listed, prefix, batch_rows=batch_rows)
    expect(job, listed, found)
    assert not job.directory.path(".reconcile").exists()


def moved(root: Path, rows: list[Row], shard_objects: int = 100) -> FabricatedJob:
    """Everything landed under its own name."""
    job = FabricatedJob.plan(root, rows, options_of(shard_objects))
    for shard in job.manifest.shards():
        table = job.manifest.read_shard(shard.shard).select(["key", "size"])
        job.seal(shard.shard, table.to_pylist())
    return job


def as_listed(job: FabricatedJob) -> list[Row]:
    return [
        {"key": each["target_key"], "size": each["size"], "etag": each["target_etag"]}
        for each in landed_of(job.receipts)
    ]


def test_two_hundred_thousand_names(tmp_path: Path) -> None:
    job = moved(tmp_path / "job", numbered(200_000, size=3), shard_objects=9_000)
    listed = as_listed(job)
    assert reconciled(job, listed).reconciled
    random.Random(1).shuffle(listed)
    listed[17]["etag"] = "other"
    listed[18] = {"key": "object-000000x", "size": 1, "etag": None}
    found = reconciled(job, listed)
    assert found.differences == {"missing": 1, "differing": 1, "extra": 1}
    expect(job, listed, found)


@pytest.mark.parametrize("alike", [False, True], ids=["others' objects", "names that are mapped"])
def test_what_lies_between_two_names_is_held_in_small_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    """Ten thousand where the manifest has two."""
    job = moved(tmp_path / "job", numbered(2_000))
    between = [{"key": f"object-000007/{nth}", "size": 1, "etag": "e"} for nth in range(10_000)]
    if alike:
        shard = job.manifest.shard_count
        receipts = [{"key": each["key"], "size": 1} for each in between]
        job.seal(shard, receipts)
    monkeypatch.setattr(reconcile, "RANGE_BYTES", 64 * KIB)
    held: list[int] = []

    def measured(landed: pa.Table, listed: pa.Table, canaries: CanaryPattern) -> pa.Table:
        held.append(landed.nbytes + listed.nbytes)
        return check_target(landed, listed, canaries)

    monkeypatch.setattr(reconcile, "check_target", measured)
    listed = [*as_listed(job), *([] if alike else between)]
    expect(job, listed, reconciled(job, listed))
    assert max(held) <= 64 * KIB
    assert len(held) > 10


def test_a_name_that_is_listed_again_and_again_is_one_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = moved(tmp_path / "job", numbered(10))
    monkeypatch.setattr(reconcile, "RANGE_BYTES", 256)
    listed = [*as_listed(job), *([{"key": "one", "size": 1, "etag": "e"}] * 500)]
    expect(job, listed, reconciled(job, listed))


def test_threads_do_not_grow_with_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = moved(tmp_path / "job", numbered(3_000), shard_objects=10)
    monkeypatch.setattr(receipt_check, "STRETCH_ROWS", 10)
    monkeypatch.setattr(reconcile, "STRETCH_ROWS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    threads: set[int] = set()

    def noted(landed: pa.Table, listed: pa.Table, canaries: CanaryPattern) -> pa.Table:
        threads.add(threading.get_ident())
        return check_target(landed, listed, canaries)

    monkeypatch.setattr(reconcile, "check_target", noted)
    assert reconciled(job, as_listed(job)).reconciled
    assert len(threads) <= reconcile.WORKERS_MAX


def test_a_scratch_folder_holds_what_is_temporary(tmp_path: Path) -> None:
    job = moved(tmp_path / "job", numbered(50))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "left").write_text("by one that was killed")
    landed: list[Path] = []

    def looking() -> Iterator[pa.RecordBatch]:
        yield from listing_batches(as_listed(job))
        landed.extend(path for path in tmp_path.rglob("*") if path.parent.name == "landed")
        assert not (scratch / "left").exists()

    found = reconcile.reconcile(
        job.directory,
        job.manifest,
        looking(),
        target_prefix="",
        extra_allowed=False,
        scratch=scratch,
    )
    assert found.reconciled
    assert {path.parent.parent for path in landed} == {scratch}
    assert not scratch.exists()


def test_a_listing_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    job = moved(tmp_path / "job", numbered(50))

    def breaking() -> Iterable[pa.RecordBatch]:
        yield from listing_batches(as_listed(job))
        raise RuntimeError("the store is away")

    with pytest.raises(RuntimeError, match="away"):
        reconcile.reconcile(
            job.directory, job.manifest, breaking(), target_prefix="", extra_allowed=False
        )
    assert not job.directory.path(".reconcile").exists()
    assert not job.directory.path(DIFFERENCES_FILE).exists()


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    job = moved(tmp_path / "job", numbered(50))
    path = job.manifest.directory / "part-00000.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(JobDirectoryError, match="not what was frozen"):
        reconciled(job, as_listed(job))
    path.write_bytes(whole)
    job.manifest.facts["digest"] = hashlib.sha256(b"other rows").hexdigest()
    with pytest.raises(JobDirectoryError, match="frozen digest"):
        reconciled(job, as_listed(job))


def test_a_seal_of_parts_where_there_are_none_is_refused(tmp_path: Path) -> None:
    job = moved(tmp_path / "job", numbered(50))
    job.seal_parts(0, 3)
    with pytest.raises(JobDirectoryError, match="its shard has none"):
        reconciled(job, as_listed(job))


KILLED = """
import os, pickle, signal, sys, threading
from pathlib import Path
from noria.manifests.job import receipt_check, reconcile
from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import open_manifest
from noria.workers.stores.canaries import CANARY_BYTES, CANARY_NAME
from tests.support.fabricated_jobs import listing_batches

root, last = Path(sys.argv[1]), int(sys.argv[2])
receipt_check.STRETCH_ROWS = reconcile.STRETCH_ROWS = 20
reconcile.RANGE_BYTES = 2_000
listed = pickle.loads((root / "listed.pickle").read_bytes())
calls = 0

def count(frame, event, argument):
    global calls
    if event in ("call", "c_call") and "/manifests/job/" in frame.f_code.co_filename:
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)

threading.setprofile(count)
sys.setprofile(count)
reconcile.reconcile(
    JobDirectory.open(root / "job"),
    open_manifest(root / "job" / "manifest"),
    listing_batches(listed, batch_rows=50),
    target_prefix="",
    extra_allowed=False,
    canary=CANARY_NAME,
    canary_bytes=CANARY_BYTES,
    scratch=root / "scratch",
)
sys.setprofile(None)
print(calls)
"""


def test_killed_at_any_moment_it_finds_the_same_again(tmp_path: Path) -> None:
    rng = random.Random(5)
    job = FabricatedJob.plan(tmp_path / "job", numbered(150), options_of(20))
    settle(job, rng, 0.05)
    listed = random_listing(job, rng, 0.05)
    (tmp_path / "listed.pickle").write_bytes(pickle.dumps(listed))

    def in_child(point: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(point)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[3],
        )

    whole = in_child(0)
    calls = int(whole.stdout)
    by_hand = differences_by_hand(job, listed)
    assert differences_found(job) == by_hand
    report = job.directory.path(reconcile.REPORT_FILE).read_bytes()
    seed = random.randrange(2**32)
    print(f"seed {seed}, {calls} calls")
    for point in random.Random(seed).sample(range(1, calls * 9 // 10), 4):
        assert in_child(point).returncode == -9
        again = in_child(0)
        assert again.returncode == 0, again.stderr
        assert differences_found(job) == by_hand
        assert job.directory.path(reconcile.REPORT_FILE).read_bytes() == report
        assert not (tmp_path / "scratch").exists()
        assert not job.directory.path(".reconcile").exists()
