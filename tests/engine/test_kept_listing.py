from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from noria.engine.kept_listing import KEPT_SECONDS, KeptListing
from noria.manifests.errors import (
    AccessDenied,
    JobDirectoryError,
    ListingBroken,
    NoriaError,
    StoreUnavailable,
)
from noria.manifests.job.directory import JobDirectory
from noria.workers.stores.frontier import Frontier, ListingState
from noria.workers.stores.listing import inventory_batch

Items = Iterator[pa.RecordBatch | ListingState]


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "job", {})


def batch_of(*keys: str) -> pa.RecordBatch:
    return inventory_batch({"key": list(keys), "size": ["1"] * len(keys)}, len(keys))


def some_state() -> ListingState:
    return Frontier("p/", streams=2).state()


def keys_of(batches: Iterator[pa.RecordBatch]) -> list[str]:
    return [key for batch in batches for key in batch["key"].to_pylist()]


def cut_off(directory: JobDirectory, job: str = "one", *, now: float = 1e9) -> None:
    """A listing of which two batches count, and a third one was written after the last state."""
    kept = KeptListing(directory, job, clock=lambda: now)

    def items() -> Items:
        yield batch_of("a", "b")
        yield batch_of("c")
        yield some_state()
        yield batch_of("lost")
        raise StoreUnavailable("killed")

    with pytest.raises(StoreUnavailable):
        keys_of(kept.rows(items()))


def files_of(directory: JobDirectory) -> list[str]:
    return sorted(path.name for path in directory.path(".listing").glob("*"))


def test_a_listing_goes_on_where_it_was(directory: JobDirectory) -> None:
    cut_off(directory)
    kept = KeptListing(directory, "one", clock=lambda: 1e9 + 100)
    assert (kept.listed, kept.begun) == (3, "2001-09-09 01:46 UTC")
    assert kept.state == ListingState(json.loads(json.dumps(some_state().facts)))

    def more() -> Items:
        yield batch_of("d")
        yield some_state()

    assert keys_of(kept.rows(more())) == ["a", "b", "c", "d"]
    again = KeptListing(directory, "one", clock=lambda: 1e9 + 200)
    assert again.listed == 4
    assert again.begun == kept.begun
    assert keys_of(again.rows(iter([batch_of("e")]))) == ["a", "b", "c", "d", "e"]
    again.drop()
    again.drop()
    assert files_of(directory) == []


@pytest.mark.parametrize(("job", "seconds"), [("two", 1.0), ("one", KEPT_SECONDS), ("one", -1.0)])
def test_another_job_and_an_old_listing_begin_anew(
    directory: JobDirectory, job: str, seconds: float
) -> None:
    cut_off(directory)
    kept = KeptListing(directory, job, clock=lambda: 1e9 + seconds)
    assert (kept.state, kept.listed) == (None, 0)
    assert keys_of(kept.rows(iter([batch_of("x"), some_state()]))) == ["x"]
    assert KeptListing(directory, job, clock=lambda: 1e9 + seconds).listed == 1


@pytest.mark.parametrize("harm", ["state", "job", "files", "short"])
def test_what_is_damaged_is_not_used(directory: JobDirectory, harm: str) -> None:
    cut_off(directory)
    state = directory.path(".listing/state.json")
    if harm == "short":
        directory.path(".listing/rows-0.arrow").write_bytes(b"")
    else:
        facts = json.loads(state.read_text())
        facts[harm] = {"ranges": [{}]} if harm == "state" else None
        state.write_text(json.dumps(facts))
    kept = KeptListing(directory, "one", clock=lambda: 1e9)
    assert (kept.state, kept.listed) == (None, 0)


def test_rows_that_are_damaged_are_dropped(directory: JobDirectory) -> None:
    cut_off(directory)
    rows = directory.path(".listing/rows-0.arrow")
    rows.write_bytes(b"\xff" * rows.stat().st_size)
    kept = KeptListing(directory, "one", clock=lambda: 1e9)
    with pytest.raises(JobDirectoryError):
        keys_of(kept.rows(iter([])))
    assert files_of(directory) == []


@pytest.mark.parametrize("before", [[], ["d"]])
@pytest.mark.parametrize(
    ("error", "left"),
    [
        (AccessDenied("a marker"), 0),
        (StoreUnavailable("away"), 3),
        (ListingBroken("in circles"), 0),
    ],
)
def test_a_state_that_the_store_does_not_take(
    directory: JobDirectory, error: NoriaError, left: int, before: list[str]
) -> None:
    cut_off(directory)
    kept = KeptListing(directory, "one", clock=lambda: 1e9)

    def refused() -> Items:
        for key in before:
            yield batch_of(key)
        raise error

    with pytest.raises(type(error)):
        keys_of(kept.rows(refused()))
    assert KeptListing(directory, "one", clock=lambda: 1e9).listed == left


UNFINISHED: list[Iterator[pa.RecordBatch]] = []


def killed(kept: KeptListing, *items: pa.RecordBatch | ListingState) -> None:
    """As if the process were gone after these: nothing is cleaned up."""
    left = kept.rows(iter([*items, batch_of("last")]))
    while next(left)["key"].to_pylist() != ["last"]:
        pass
    UNFINISHED.append(left)


def test_a_state_before_the_first_row_is_gone_on_with(directory: JobDirectory) -> None:
    killed(KeptListing(directory, "one"), some_state())
    kept = KeptListing(directory, "one")
    assert (kept.listed, kept.state is None) == (0, False)
    assert keys_of(kept.rows(iter([batch_of("a"), some_state()]))) == ["a"]
    assert keys_of(KeptListing(directory, "one").rows(iter([]))) == ["a"]


def test_a_state_that_was_passed_over_counts_no_rows_of_another_listing(
    directory: JobDirectory,
) -> None:
    """The clock was wrong for one plan, which was killed before its first state."""
    cut_off(directory)
    killed(KeptListing(directory, "one", clock=lambda: 1.0), batch_of("x"))
    assert files_of(directory) == ["rows-0.arrow"]
    kept = KeptListing(directory, "one", clock=lambda: 1e9 + 1)
    assert (kept.state, kept.listed) == (None, 0)


@pytest.mark.parametrize("harm", ["schema", "count"])
def test_rows_of_another_kind_or_number_are_dropped(directory: JobDirectory, harm: str) -> None:
    cut_off(directory)
    state = directory.path(".listing/state.json")
    facts = json.loads(state.read_text())
    if harm == "count":
        facts["listed"] += 1
    else:
        rows = directory.path(".listing/rows-0.arrow")
        batch = pa.record_batch({"key": ["a", "b", "c"]})
        with pa.OSFile(str(rows), "wb") as file, pa.ipc.new_stream(file, batch.schema) as writer:
            writer.write_batch(batch)
        facts["files"] = [["rows-0.arrow", rows.stat().st_size]]
    state.write_text(json.dumps(facts))
    kept = KeptListing(directory, "one", clock=lambda: 1e9)
    with pytest.raises(JobDirectoryError, match="to list from the start"):
        keys_of(kept.rows(iter([])))
    assert files_of(directory) == []


def test_a_short_listing_leaves_nothing(directory: JobDirectory) -> None:
    kept = KeptListing(directory, "one")
    assert keys_of(kept.rows(iter([batch_of("a")]))) == ["a"]
    assert files_of(directory) == []
