"""Objects that a killed worker wrote, whose source changed before their pass went on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.engine import job
from noria.engine.job import RunReport
from noria.engine.planning import Prepared
from noria.engine.worker_factory import make_context
from noria.manifests.model import Delta
from noria.workers.counters import CounterRegistry
from noria.workers.runtime.bandwidth import Bandwidth
from noria.workers.runtime.buffers import BufferPool
from noria.workers.runtime.hold import Hold
from noria.workers.transfer import ObjectTransfer
from tests.support.local_migrations import LocalMigration, held, run_here, write

OBJECTS = {"a": "first", "b": "second", "c": "third"}
ATTEMPT = 1_000_000
"""No other one has this number."""


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    return migration


def lose_receipts(move: LocalMigration, then: Callable[[], None]) -> RunReport:
    """A pass whose first worker is killed between its writes and their receipts.

    `then` is what the source's users do before the pass goes on, as it does here.
    """

    def run(ready: Prepared) -> RunReport:
        write_without_receipts(ready)
        then()
        return run_here(ready)

    move.run = run
    report = move.sync().run
    move.run = run_here
    return report


def write_without_receipts(ready: Prepared) -> None:
    spec = job.worker_spec(ready, ready.config.run)
    buffers = BufferPool(spec.settings.bytes_in_flight)
    context = make_context(spec, CounterRegistry(), buffers, Hold(), Bandwidth())
    for shard in ready.manifest.shards():
        for entry in ready.manifest.entries(shard.shard):
            if entry.reason is None and entry.delta is not Delta.GONE:
                ObjectTransfer(context, entry, ATTEMPT).move()


def test_what_has_changed_again_replaces_them(move: LocalMigration) -> None:
    write(move.source, {"a": "changed", "new": "made"})
    report = lose_receipts(
        move, lambda: write(move.source, {"a": "changed again", "new": "made again"})
    )
    assert report.causes == {"source_changed": 2}
    assert held(move.target) == {**OBJECTS, "a": "changed", "new": "made"}
    report = move.sync().run
    assert (report.outcomes, move.is_equal) == ({"TRANSFERRED": 2}, True)
    # From here on they are as any others that this migration wrote.
    write(move.source, {"a": "and again", "new": "and again"})
    assert move.sync().run.outcomes == {"TRANSFERRED": 2}
    assert (move.verify().exit_code, move.is_equal) == (0, True)


def test_the_same_bytes_with_new_attributes_are_sent_too(move: LocalMigration) -> None:
    write(move.source, {"new": "made"})
    assert lose_receipts(move, lambda: write(move.source, {"new": "made"})).failed == 1
    assert move.sync().run.outcomes == {"TRANSFERRED": 1}


def test_a_large_one_gives_way_to_an_upload(tmp_path: Path) -> None:
    move, half = LocalMigration(tmp_path), "0123456789abcdef" * (1 << 14)
    move.copy(
        {**OBJECTS, "big": half},
        plan={"part_bytes": 1 << 16, "chunk_bytes": 1 << 16, "segment_bytes": 1 << 17},
    )
    write(move.source, {"big": half + "a", "bigger": half + "b"})
    again = {"big": half + "c" * 9, "bigger": half + "d" * 9}
    assert lose_receipts(move, lambda: write(move.source, again)).failed == 2
    report = move.sync().run
    assert (report.outcomes, move.is_equal) == ({"TRANSFERRED": 2}, True)


def test_what_is_gone_at_the_source_is_deleted(move: LocalMigration) -> None:
    write(move.source, {"a": "changed"})
    assert lose_receipts(move, (move.source / "a").unlink).failed == 1
    report = move.sync(mirror=True, any_number=True).run
    assert (report.outcomes, move.is_equal) == ({"DELETED": 1}, True)


def test_what_others_wrote_over_them_stays(move: LocalMigration) -> None:
    write(move.source, {"a": "changed", "new": "made"})
    lose_receipts(move, lambda: write(move.source, {"a": "changed again", "new": "made again"}))
    for name in ("a", "new"):
        (move.target / name).unlink()
    write(move.target, {"a": "by a user", "new": "by a user"})
    report = move.sync().run
    assert (report.failed, report.causes) == (2, {"target_conflict": 2})
    assert held(move.target) == {**OBJECTS, "a": "by a user", "new": "by a user"}


def test_a_copy_of_one_under_another_name_is_of_others(move: LocalMigration) -> None:
    write(move.source, {"new": "made"})
    lose_receipts(move, lambda: write(move.source, {"new": "made again"}))
    copy_with_attributes(move.target / "new", move.target / "copy")
    write(move.source, {"copy": "of the source"})
    report = move.sync().run
    assert (report.outcomes["TRANSFERRED"], report.causes) == (1, {"target_conflict": 1})
    assert (move.target / "copy").read_text() == "made"


def test_what_has_a_receipt_and_was_changed_by_others_stays(move: LocalMigration) -> None:
    write(move.source, {"a": "changed"})
    assert move.sync().run.outcomes == {"TRANSFERRED": 1}
    os.utime(move.target / "a", ns=(1, 1))  # its ETag is another one; its transfer id is not
    write(move.source, {"a": "changed again"})
    report = move.sync().run
    assert (report.failed, report.causes) == (1, {"target_conflict": 1})
    assert (move.target / "a").read_text() == "changed"


def test_what_was_deleted_and_brought_back_by_others_stays(move: LocalMigration) -> None:
    copy_with_attributes(move.target / "a", move.folder / "kept")
    (move.source / "a").unlink()
    assert move.sync(mirror=True, any_number=True).run.outcomes == {"DELETED": 1}
    copy_with_attributes(move.folder / "kept", move.target / "a")
    write(move.source, {"a": "back, too"})
    report = move.sync().run
    assert (report.failed, report.causes) == (1, {"target_conflict": 1})
    assert (move.target / "a").read_text() == OBJECTS["a"]


def copy_with_attributes(one: Path, other: Path) -> None:
    """As a user does who keeps the metadata, in which the transfer id is."""
    shutil.copy2(one, other)
    assert [*os.listxattr(one)] == [*os.listxattr(other)] != []
