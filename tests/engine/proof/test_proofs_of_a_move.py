"""`noria sign`, `cosign` and `prove` on migrations that have moved, and forgers of them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import summarize
from noria.manifests.job.seals import compact_seals, read_seals, seal
from noria.manifests.manifest.reader import open_manifest
from noria.manifests.manifest.row_digest import manifest_digest
from noria.manifests.model import LeaseEnd, LeaseKind, LeaseResult
from noria.manifests.proof.folder import ProofFolder
from noria.manifests.proof.note import read_key
from noria.manifests.proof.proof_files import Absence, Inclusion, read_proof
from noria.workers.digest import tree_root
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third", "e": "fourth"}


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy(OBJECTS)
    return migration


@pytest.fixture
def key(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
        return path

    return make


def signed(move: LocalMigration, file: Path, command: str = "sign") -> dict[str, Any]:
    name = f"example.eu/{file.name}"
    code, out, err = noria(command, move.root, "--signing-key", file, "--name", name, "--json")
    assert code == 0, err
    summary: dict[str, Any] = json.loads(out)
    return summary


def checked(move: LocalMigration, *keys: str) -> tuple[int, str]:
    """The exit code of `noria prove --check`, and what it said."""
    trusted = [word for each in keys for word in ("--trust", each)]
    code, out, err = noria("prove", move.root, "--check", *trusted)
    return code, out + err


def test_a_checkpoint_is_signed_by_the_operator_and_by_somebody_else(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    first = signed(move, key("mover"))
    assert (first["checkpoint"], first["size"], first["sealed"]) == (1, 4, 4)
    assert re.search(r"\n\n— example.eu/mover \S{92}\n$", first["note"])
    second = signed(move, key("auditor"), "cosign")
    assert second["note"].startswith(first["note"])
    code, said = checked(move, first["key"], second["key"])
    assert code == 0
    assert "signed by example.eu/mover, example.eu/auditor at 20" in said
    assert ProofFolder(move.root).file(1).read_text() == second["note"]
    known = {each.line for each in ProofFolder(move.root).known_keys()}
    assert known == {first["key"], second["key"]}


def test_openssl_finds_the_signature_right_and_one_of_another_text_wrong(
    move: LocalMigration, key: Callable[[str], Path], tmp_path: Path
) -> None:
    """As the page of the format says, with nothing of Noria."""
    summary = signed(move, key("mover"))
    der = bytes.fromhex("302a300506032b6570032100")
    public = base64.b64decode(summary["key"].split("+", 2)[2])[1:]
    (tmp_path / "key.der").write_bytes(der + public)
    text, _, line = summary["note"].rpartition("\n\n")
    (tmp_path / "signature").write_bytes(base64.b64decode(line.split()[2])[4:])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-rawin"]
    command += ["-inkey", "key.der", "-in", "text", "-sigfile", "signature"]
    for body, expected in ((text + "\n", 0), (text + "\n\n", 1)):
        (tmp_path / "text").write_text(body)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == expected, done


def test_signing_again_changes_nothing(move: LocalMigration, key: Callable[[str], Path]) -> None:
    mover, auditor = key("mover"), key("auditor")
    first = signed(move, mover)
    assert signed(move, mover) == first
    second = signed(move, auditor, "cosign")
    assert signed(move, auditor, "cosign") == second
    assert len(ProofFolder(move.root).checkpoints()) == 1


def test_passes_are_signed_one_by_one_and_names_followed_through_them(
    move: LocalMigration, key: Callable[[str], Path], tmp_path: Path
) -> None:
    mover = key("mover")
    signed(move, mover)
    (move.source / "e").write_text("other")
    (move.source / "f").write_text("new")
    assert move.sync().run.exit_code == 0
    code, _, err = noria("prove", move.root, "a", "-o", tmp_path / "a")
    assert code == 2
    assert "pass 2" in err
    summary = signed(move, mover)
    assert (summary["checkpoint"], summary["pass"], summary["size"]) == (2, 2, 2)
    assert summary["note"].splitlines()[-5].startswith("history 3 ")
    for name, expected in {"a": [Absence, Inclusion], "e": [Inclusion], "x": [Absence] * 2}.items():
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        code, out, err = noria("prove", move.root, name, "-o", folder / "p", "--json")
        assert code == 0, err
        files = [each["file"] for each in json.loads(out)["proofs"]]
        proofs = [read_proof(Path(file).read_bytes()) for file in files]
        assert [type(each) for each in proofs] == expected
        for proof in proofs:
            proof.check(name)
    code, said = checked(move, summary["key"])
    assert code == 0
    assert "pass 1: 4 receipts, as checkpoint 1 says" in said
    assert "pass 2: 2 receipts, as checkpoint 2 says" in said


def test_a_move_that_is_not_at_its_end_is_not_signed(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    directory = JobDirectory(move.root)
    (sealed,) = directory.path("sealed").rglob("*.json")
    sealed.unlink()
    code, _, err = noria("sign", move.root, "--signing-key", key("mover"), "--name", "m")
    assert code == 2
    assert "4 of 4 entries have no receipt" in err


def test_a_move_that_is_at_work_is_not_signed(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    with JobDirectory(move.root).hold():
        code, _, err = noria("sign", move.root, "--signing-key", key("mover"), "--name", "m")
    assert (code, "is at work" in err) == (2, True)


def test_nobody_cosigns_what_is_not_signed(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    code, _, err = noria("cosign", move.root, "--signing-key", key("auditor"), "--name", "a")
    assert (code, "noria sign" in err) == (2, True)


def test_the_operator_is_no_second_person(move: LocalMigration, key: Callable[[str], Path]) -> None:
    mover = key("mover")
    signed(move, mover)
    code, _, err = noria("cosign", move.root, "--signing-key", mover, "--name", "somebody")
    assert code == 2
    assert "signed as the operator" in err


def test_who_trusts_nobody_is_told_that_nobody_signed(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    signed(move, key("mover"))
    code, said = checked(move)
    assert (code, "nobody who is trusted" in said) == (1, True)
    stranger = key("stranger")
    other = signed(move, stranger)["key"]
    assert read_key(other).name == "example.eu/stranger"
    note = ProofFolder(move.root).file(1)
    note.write_text(note.read_text().replace("example.eu/stranger", "example.eu/mover"))
    code, said = checked(move, other)
    assert (code, "nobody who is trusted" in said) == (1, True)


def test_a_wrong_signature_of_a_trusted_key_is_damage(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    summary = signed(move, key("mover"))
    note = ProofFolder(move.root).file(1)
    line = summary["note"].splitlines()[-1].split()[2]
    data = bytearray(base64.b64decode(line))
    data[40] ^= 1
    note.write_text(summary["note"].replace(line, base64.b64encode(data).decode()))
    code, said = checked(move, summary["key"])
    assert (code, "is wrong" in said) == (3, True)


# -- forgers who hold the directory ---------------------------------------------------------------


class Forger:
    """Changes what a move has left, and makes every digest in the directory right again."""

    def __init__(self, root: Path) -> None:
        self.directory = JobDirectory(root)

    def change_receipts(self, change: Callable[[pa.Table], pa.Table]) -> None:
        (sealed,) = read_seals(self.directory)
        path = self.directory.path(sealed.result_name)
        receipts = change(pq.read_table(path)).cast(pq.read_schema(path))
        pq.write_table(receipts, path)
        for each in self.directory.path("sealed").rglob("*.json"):
            each.unlink()
        result = LeaseResult(
            shard=sealed.shard,
            kind=sealed.kind,
            first=0,
            end=len(receipts),
            attempt=sealed.attempt,
            generation=sealed.generation,
            how=LeaseEnd.FINISHED,
            result_name=sealed.result_name,
            result_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            summary=summarize(receipts),
        )
        seal(self.directory, result)
        compact_seals(self.directory)

    def erase(self, key: str) -> None:
        """An object of which nobody shall know: no entry, no receipt."""

        def without(receipts: pa.Table) -> pa.Table:
            left = receipts.filter(pc.not_equal(receipts["key"], key))
            rows = pa.array(range(len(left)), pa.int32())
            return left.set_column(0, "row", rows)

        manifest = self.directory.manifest_path
        part, shards = manifest / "part-00000.parquet", manifest / "shards.parquet"
        rows = pq.read_table(part)
        size = rows.filter(pc.equal(rows["key"], key))["size"][0].as_py()
        rows = rows.filter(pc.not_equal(rows["key"], key))
        pq.write_table(rows, part)
        table = pq.read_table(shards)
        schema = table.schema
        (shard,) = table.to_pylist()
        shard |= {
            "rows": len(rows),
            "units": len(rows),
            "units_per_lease": len(rows),
            "bytes": shard["bytes"] - size,
        }
        pq.write_table(pa.Table.from_pylist([shard], schema=schema), shards)
        facts = json.loads((manifest / "manifest.json").read_text())
        facts |= {
            "objects": len(rows),
            "bytes": facts["bytes"] - size,
            "to_move": {"objects": len(rows), "bytes": facts["to_move"]["bytes"] - size},
            "digest": manifest_digest([rows]),
            "files": [{**facts["files"][0], "rows": len(rows), **_of(part)}],
        }
        facts["shards"]["file"] |= _of(shards)
        (manifest / "manifest.json").write_text(json.dumps(facts))
        self.change_receipts(without)


def _of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(
        at, table.schema.field(at), pa.array(values, table.schema.field(at).type)
    )


def test_an_erased_object_shows_though_all_digests_are_right(
    move: LocalMigration, key: Callable[[str], Path], tmp_path: Path
) -> None:
    summary = signed(move, key("mover"))
    Forger(move.root).erase("d/b")
    (move.target / "d/b").unlink()
    code, _, _ = noria("reconcile", move.root)
    assert code == 0, "without a proof nobody sees it"
    open_manifest(move.root / "manifest").verify()
    code, said = checked(move, summary["key"])
    assert code == 3
    assert "is not what checkpoint 1 says (root, size, counts, manifest)" in said
    code, _, err = noria("prove", move.root, "d/b", "-o", tmp_path / "p")
    assert (code, "not those of checkpoint 1" in err) == (3, True)
    code, _, err = noria("cosign", move.root, "--signing-key", key("auditor"), "--name", "a")
    assert (code, "is not what checkpoint 1 says" in err) == (3, True)


def test_a_forger_who_makes_a_checkpoint_of_his_own_has_not_the_key(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    mover = signed(move, key("mover"))
    Forger(move.root).erase("d/b")
    for each in sorted((move.root / "proof").rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() else each.unlink()
    forged = signed(move, key("forger"))
    assert forged["size"] == 3
    code, said = checked(move, mover["key"])
    assert (code, "nobody who is trusted" in said) == (1, True)


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("level", ["chained"] * 4, "root, counts"),
        ("target_etag", ["x"] * 4, "root"),
        ("finished_ms", [1] * 4, "root, last receipt"),
        ("source_version", ["1"] * 4, "root"),
        ("root", [b"\1" * 32] * 4, "were changed"),
    ],
)
def test_a_receipt_that_says_something_else_shows(
    move: LocalMigration, key: Callable[[str], Path], column: str, values: list[Any], why: str
) -> None:
    summary = signed(move, key("mover"))
    Forger(move.root).change_receipts(lambda table: with_column(table, column, values))
    code, said = checked(move, summary["key"])
    assert (code, why in said) == (3, True), said


def test_digests_of_chunks_that_were_changed_show_though_no_leaf_has_them(
    move: LocalMigration, key: Callable[[str], Path]
) -> None:
    """Or other bytes at the target could be read back, and found equal."""
    summary = signed(move, key("mover"))
    Forger(move.root).change_receipts(lambda table: with_column(table, "chunks", [b"\1" * 16] * 4))
    code, said = checked(move, summary["key"])
    assert (code, "were changed" in said) == (3, True)

    def with_roots(table: pa.Table) -> pa.Table:
        rows = table.select(["size", "chunk_bytes", "chunks"]).to_pylist()
        roots = [tree_root(each["size"], each["chunk_bytes"], each["chunks"]) for each in rows]
        return with_column(table, "root", roots)

    Forger(move.root).change_receipts(with_roots)
    code, said = checked(move, summary["key"])
    assert (code, "(root)" in said) == (3, True)


def test_a_history_that_was_changed_shows(move: LocalMigration, key: Callable[[str], Path]) -> None:
    assert move.sync().run.exit_code == 0
    summary = signed(move, key("mover"))
    for each in (move.root / "history").iterdir():
        each.unlink()
    code, said = checked(move, summary["key"])
    assert (code, "(history)" in said) == (3, True)


def test_objects_and_names_that_are_odd_are_proven(
    tmp_path: Path, key: Callable[[str], Path]
) -> None:
    odd = LocalMigration(tmp_path)
    names = ["-", "a b", "é", "e\u0301", "𝄞", "\N{BOM}x", "z" * 200, "a+b", "a%41"]
    odd.copy({name: name for name in names})
    signed(odd, key("mover"))
    for name in names:
        code, _, err = noria("prove", odd.root, "-o", tmp_path / "p", "--", name)
        assert code == 0, err
        proof = read_proof((tmp_path / "p-1.tlog-proof").read_bytes())
        proof.check(name)


def test_prove_wants_one_thing(move: LocalMigration) -> None:
    for words in ([], ["a", "--all"], ["--all", "--check"]):
        code, _, err = noria("prove", move.root, *words)
        assert (code, "one of them" in err) == (2, True)
    code, _, err = noria("prove", move.root, "a", "--pass", "7")
    assert (code, "has passes 1 to 1" in err) == (2, True)
    code, _, err = noria("prove", move.root, "--check", "--trust", "nobody")
    assert (code, "neither a key" in err) == (2, True)


def test_a_huge_object_has_one_receipt_though_parts_were_moved(
    tmp_path: Path, key: Callable[[str], Path]
) -> None:
    huge = LocalMigration(tmp_path)
    objects = {"a": "first", "huge": "x" * (12 << 20), "z": "last"}
    huge.copy(
        objects, plan={"part_bytes": 1 << 20, "chunk_bytes": 1 << 20, "segment_bytes": 2 << 20}
    )
    kinds = {sealed.kind for sealed in read_seals(JobDirectory(huge.root))}
    assert kinds == {LeaseKind.OBJECTS, LeaseKind.PARTS, LeaseKind.ASSEMBLE}
    summary = signed(huge, key("mover"))
    assert summary["size"] == 3
    code, said = checked(huge, summary["key"])
    assert code == 0, said
    code, _, err = noria("prove", huge.root, "huge", "-o", tmp_path / "p")
    assert code == 0, err
    read_proof((tmp_path / "p-1.tlog-proof").read_bytes()).check("huge")
