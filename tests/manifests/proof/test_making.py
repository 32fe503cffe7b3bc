"""Trees and checkpoints of fabricated migrations."""

from __future__ import annotations

import gzip
import itertools
import struct
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import RecordKind
from noria.manifests.job.seals import read_seals
from noria.manifests.model import Outcome
from noria.manifests.proof.folder import KeptCheckpoint, ProofFolder, last_of_each_pass
from noria.manifests.proof.making import make_checkpoint
from noria.manifests.proof.proof_files import Absence, Inclusion, read_proof
from noria.manifests.proof.proving import export_leaves, prove
from tests.support.fabricated_jobs import FabricatedJob
from tests.support.fabricated_passes import FabricatedMigration, Source
from tests.support.killed_lines import killed_after
from tests.support.proof_by_hand import leaf_by_hand, leaf_hash_by_hand, root_by_hand
from tests.support.rows import Row

OBJECTS = 600
"""More than two tiles, and a rest."""


def objects(numbers: range, etag: str = "e") -> Source:
    return {
        f"k{number:04d}": {"key": f"k{number:04d}", "size": number, "etag": etag}
        for number in numbers
    }


@pytest.fixture
def moved(tmp_path: Path) -> FabricatedMigration:
    """A first pass, moved; keys are even numbers."""
    migration = FabricatedMigration(tmp_path / "move")
    migration.settle(
        migration.plan(objects(range(0, 2 * OBJECTS, 2))),
        failing={"k0004": "FAILED", "k0010": "SKIPPED"},
    )
    return migration


def receipts_of(migration: FabricatedMigration, number: int = 1) -> list[Row]:
    """Read without Noria's reader, in order."""
    directory = JobDirectory(migration.migration.place(number))
    seals = sorted(read_seals(directory), key=lambda seal: (seal.shard, seal.first))
    return [
        row
        for seal in seals
        for row in pq.ParquetFile(directory.path(seal.result_name)).read().to_pylist()
    ]


def made(migration: FabricatedMigration, number: int = 1) -> KeptCheckpoint:
    return make_checkpoint(migration.migration, number, ended=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in sorted(folder.rglob("*"))
        if each.is_file() and "/." not in f"/{each.relative_to(folder).as_posix()}"
    }


def test_the_root_is_that_of_all_receipts_whatever_became_of_them(
    moved: FabricatedMigration,
) -> None:
    receipts = receipts_of(moved)
    assert len(receipts) == OBJECTS
    assert [each["key"] for each in receipts] == sorted(each["key"] for each in receipts)
    checkpoint = made(moved).checkpoint
    hashes = [leaf_hash_by_hand(leaf_by_hand(each)) for each in receipts]
    assert checkpoint.root == root_by_hand(hashes)
    assert checkpoint.size == OBJECTS
    assert checkpoint.sums.outcomes == {
        Outcome.TRANSFERRED: OBJECTS - 2,
        Outcome.FAILED: 1,
        Outcome.SKIPPED: 1,
    }
    assert sum(checkpoint.sums.outcome_bytes.values()) == sum(each["size"] for each in receipts)
    tree = ProofFolder(moved.root).tree(checkpoint.root)
    assert set(contents(tree)) == {"tile/1/000.p/2"}
    assert contents(tree)["tile/1/000.p/2"][:32] == root_by_hand(hashes[:256])


def test_made_again_it_is_the_same(moved: FabricatedMigration) -> None:
    first = made(moved)
    before = contents(moved.root)
    assert made(moved) == first
    assert contents(moved.root) == before


def test_a_pass_that_has_not_ended_has_none(moved: FabricatedMigration) -> None:
    directory = JobDirectory(moved.root)
    name = next(name for name in directory.names("sealed") if "segments" not in name)
    directory.path(name).unlink()
    with pytest.raises(ConfigurationError, match="7 of 600 entries have no receipt"):
        made(moved)
    assert ProofFolder(moved.root).checkpoints() == []
    assert contents(moved.root / "proof") == {}


def test_passes_make_a_chain(moved: FabricatedMigration) -> None:
    first = made(moved)
    moved.settle(moved.plan(objects(range(0, 2 * OBJECTS, 3))))
    second = made(moved, 2)
    assert second.checkpoint.previous == (1, first.note.digest)
    assert second.checkpoint.pass_number == 2
    assert second.checkpoint.migration == first.checkpoint.migration == "job-1"
    assert second.checkpoint.job == "job-2"
    assert second.checkpoint.root != first.checkpoint.root
    kept = ProofFolder(moved.root).checkpoints()
    assert kept == [first, second]
    assert last_of_each_pass(kept) == {1: first, 2: second}


def test_what_a_checkpoint_says_may_change_and_its_tree_stays(moved: FabricatedMigration) -> None:
    first = made(moved)
    history.append(JobDirectory(moved.root), RecordKind.PLANNED, {"pass": 1})
    second = made(moved)
    assert second.checkpoint.number == 2
    assert second.checkpoint.root == first.checkpoint.root
    assert (first.checkpoint.history[0], second.checkpoint.history[0]) == (0, 1)
    again = make_checkpoint(moved.migration, 1, ended=True, version="9.9")
    assert again == second, "a later version of Noria has nothing else to say"


def test_the_result_of_reconcile_is_of_a_pass_that_has_ended(moved: FabricatedMigration) -> None:
    directory = JobDirectory(moved.root)
    counts = '"landed":1,"listed":2,"unsettled":0,"unplanned":0,"missing":3,"differing":0,'
    more = '"merged":0,"extra":0,"reconciled":false'
    directory.put("reconcile.json", ("{" + counts + more + "}").encode())
    running = make_checkpoint(moved.migration, 1, ended=False).checkpoint
    assert running.reconciled is None
    ended = made(moved).checkpoint
    assert ended.reconciled is False
    assert (ended.reconcile["missing"], ended.reconcile["listed"]) == (3, 2)
    directory.put("reconcile.json", b'{"reconciled":true}')
    assert made(moved).checkpoint.reconciled is None


def test_a_changed_or_missing_checkpoint_is_seen(moved: FabricatedMigration) -> None:
    made(moved)
    moved.settle(moved.plan(objects(range(0, 2 * OBJECTS, 3))))
    made(moved, 2)
    folder = ProofFolder(moved.root)
    whole = folder.file(1).read_bytes()
    folder.file(1).write_bytes(whole.replace(b"last-receipt 1", b"last-receipt 2"))
    with pytest.raises(JobDirectoryError, match="000002/checkpoint does not follow"):
        folder.checkpoints()
    folder.file(1).write_bytes(whole[:-9])
    with pytest.raises(JobDirectoryError, match="000001/checkpoint is damaged"):
        folder.checkpoints()
    folder.file(1).unlink()
    with pytest.raises(JobDirectoryError, match="000001/checkpoint is missing"):
        folder.checkpoints()


def test_a_manifest_that_is_not_what_was_frozen_is_not_signed(moved: FabricatedMigration) -> None:
    path = moved.root / "manifest" / "manifest.json"
    facts = path.read_text().replace(moved.manifests[1].digest, "0" * 64)
    path.write_text(facts)
    with pytest.raises(JobDirectoryError, match="frozen digest"):
        made(moved)


def test_killed_anywhere_and_made_again_it_has_the_same_bytes(tmp_path: Path) -> None:
    def settled(folder: Path) -> FabricatedMigration:
        migration = FabricatedMigration(folder)
        migration.settle(migration.plan(objects(range(7))))
        return migration

    whole = settled(tmp_path / "whole")
    made(whole)
    expected = contents(whole.root / "proof")
    left = set()
    for changes in itertools.count():
        migration = settled(tmp_path / f"{changes}")
        killed = killed_after(changes, migration.root / "proof", partial(made, migration))
        left.add(len(contents(migration.root / "proof")))
        made(migration)
        assert contents(migration.root / "proof") == expected
        assert not list((migration.root / "proof").glob(".new-*"))
        if not killed:
            break
    assert {2, 3} <= left, "the checker, in two files, then the checkpoint"


# -- what becomes of a name -----------------------------------------------------------------------


def test_every_name_is_proven_and_every_other_is_not_there(moved: FabricatedMigration) -> None:
    made(moved)
    receipts = {each["key"]: each for each in receipts_of(moved)}
    for number in (-1, 0, 1, 2, 3, 254, 510, 511, 512, 513, 1197, 1198, 1199, 5000):
        key = f"k{number:04d}"
        (proof,) = prove(moved.migration, key)
        assert read_proof(proof.encode()) == proof
        proof.check(key)
        assert isinstance(proof, Inclusion) == (key in receipts)
        if isinstance(proof, Inclusion):
            assert proof.proof.leaf == leaf_by_hand(receipts[key])
        else:
            edge = number < 0 or number > 1198
            assert len(proof.neighbours) == (1 if edge else 2)
        for other in (f"k{number + 1:04d}", f"k{number + 2:04d}", "", "zzz"):
            with pytest.raises(ValueError, match=r"."):
                proof.check(other)


def test_an_empty_pass_proves_that_nothing_is_there(tmp_path: Path) -> None:
    migration = FabricatedMigration(tmp_path / "move")
    migration.settle(migration.plan({}))
    made(migration)
    (proof,) = prove(migration.migration, "a")
    assert isinstance(proof, Absence)
    assert read_proof(proof.encode()) == proof
    proof.check("a")


def test_the_word_on_a_name_is_that_of_the_last_pass_that_has_it(
    moved: FabricatedMigration,
) -> None:
    made(moved)
    changed = objects(range(0, 2 * OBJECTS, 2)) | objects(range(0, 2 * OBJECTS, 200), "f")
    moved.settle(moved.plan(changed))
    made(moved, 2)
    kinds = {
        key: [type(each) for each in prove(moved.migration, key)]
        for key in ("k0200", "k0202", "k0203")
    }
    assert kinds == {
        "k0200": [Inclusion],
        "k0202": [Absence, Inclusion],
        "k0203": [Absence, Absence],
    }
    assert [type(each) for each in prove(moved.migration, "k0200", 1)] == [Inclusion]


def test_nothing_is_proven_without_a_checkpoint(moved: FabricatedMigration) -> None:
    with pytest.raises(ConfigurationError, match="noria sign"):
        prove(moved.migration, "k0000")


@pytest.mark.parametrize("of", [Inclusion, Absence])
def test_a_proof_of_which_anything_is_changed_proves_nothing(
    moved: FabricatedMigration, of: type
) -> None:
    made(moved)
    key = "k0300" if of is Inclusion else "k0301"
    (proof,) = prove(moved.migration, key)
    assert type(proof) is of
    head, _, note = proof.encode().partition(b"\n\n")
    lines = head.split(b"\n")
    for number in range(len(lines)):
        for changed in (
            [*lines[:number], *lines[number + 1 :]],
            [*lines[: number + 1], *lines[number:]],
            [*lines[:number], lines[number].swapcase(), *lines[number + 1 :]],
        ):
            with pytest.raises(ValueError, match=r"."):
                read_proof(b"\n".join(changed) + b"\n\n" + note).check(key)


def test_a_name_that_is_there_is_not_proven_absent_by_leaves_around_it(
    moved: FabricatedMigration,
) -> None:
    note = made(moved).note
    leaves = {}
    for key in ("k0000", "k0298", "k0302", "k1198"):
        (found,) = prove(moved.migration, key)
        assert isinstance(found, Inclusion)
        leaves[key] = found.proof
    for names in (
        ["k0298", "k0302"],
        ["k0302", "k0298"],
        ["k0000", "k1198"],
        ["k0298"],
        ["k0302"],
        ["k0000"],
        ["k1198"],
        [],
        ["k0298", "k0302", "k1198"],
    ):
        proof = Absence(key="k0300", neighbours=[leaves[name] for name in names], note=note)
        with pytest.raises(ValueError, match="not the neighbours"):
            proof.check("k0300")


def test_receipts_that_became_others_are_not_proven(moved: FabricatedMigration) -> None:
    """An object is sealed anew, as after its failure was tried again."""
    checkpoint = made(moved).checkpoint
    manifest = moved.manifests[1]
    rows = manifest.read_shard(0).to_pylist()
    receipts = [{"key": row["key"], "size": row["size"], "target_etag": "other"} for row in rows]
    FabricatedJob(JobDirectory(moved.root), manifest).seal(0, receipts)
    with pytest.raises(JobDirectoryError, match="not those of checkpoint 1"):
        prove(moved.migration, "k0000")
    with pytest.raises(JobDirectoryError, match="not those of checkpoint 1"):
        export_leaves(moved.migration)
    after = made(moved).checkpoint
    assert (after.number, after.pass_number) == (2, 1)
    assert after.root != checkpoint.root
    assert isinstance(prove(moved.migration, "k0000")[0], Inclusion)


# -- leaves for who has no reader of receipts ------------------------------------------------------


def test_leaves_are_written_once_and_give_the_root(
    moved: FabricatedMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.manifests.proof.proving.LEAVES_PER_FILE", 250)
    checkpoint = made(moved).checkpoint
    (folder,) = export_leaves(moved.migration)
    assert sorted(each.name for each in folder.iterdir()) == ["000.gz", "001.gz", "002.gz"]
    leaves = []
    for file in sorted(folder.iterdir()):
        data, at = gzip.decompress(file.read_bytes()), 0
        while at < len(data):
            (length,) = struct.unpack_from(">I", data, at)
            leaves.append(data[at + 4 : at + 4 + length])
            at += 4 + length
    assert leaves == [leaf_by_hand(each) for each in receipts_of(moved)]
    assert root_by_hand([leaf_hash_by_hand(leaf) for leaf in leaves]) == checkpoint.root
    before = contents(folder)
    assert export_leaves(moved.migration) == [folder]
    assert contents(folder) == before


def test_a_checkpoint_that_somebody_else_wrote_meanwhile_is_not_replaced(
    moved: FabricatedMigration,
) -> None:
    kept = made(moved)
    folder = ProofFolder(moved.root)
    assert folder.append(kept.checkpoint) == kept
    with pytest.raises(JobDirectoryError, match="somebody else"):
        folder.append(replace(kept.checkpoint, pass_number=2))
