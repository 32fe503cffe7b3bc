"""The checker that ships, on what `noria sign` and `noria prove` make of real migrations."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.manifests.proof.test_tampering import BYTES, TEXT, unpacked
from tests.support.checker import CHECKER, HOLDS, NOT_CHECKED, REFUSED, checked, checked_alone
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration

OBJECTS = {"a": "first", "d/b": "second", "d/c": "third", "e": "fourth", "é %": ""}
TAMPERINGS = 150


def made_key(folder: Path, name: str) -> Path:
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def signed(move: LocalMigration, key: Path, command: str = "sign") -> str:
    """Sign the last pass; the public key."""
    name = f"example.eu/{key.name}"
    code, out, err = noria(command, move.root, "--signing-key", key, "--name", name, "--json")
    assert code == 0, err
    return str(json.loads(out)["key"])


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalMigration, tuple[str, ...]]:
    """Two passes and a cutover, signed, cosigned, with all leaves; and the keys as arguments."""
    folder = tmp_path_factory.mktemp("proven")
    move = LocalMigration(folder)
    move.copy(OBJECTS)
    mover, auditor = made_key(folder, "mover"), made_key(folder, "auditor")
    signed(move, mover)
    (move.source / "e").write_text("changed")
    (move.source / "f").write_text("new")
    (move.source / "a").unlink()
    move.sync(mirror=True, any_number=True)
    signed(move, mover)
    move.switch()
    keys = (signed(move, mover), signed(move, auditor, "cosign"))
    code, _, err = noria("prove", move.root, "--all")
    assert code == 0, err
    return move, tuple(word for each in keys for word in ("--key", each))


def proofs(move: LocalMigration, name: str, folder: Path) -> list[Path]:
    code, out, err = noria("prove", move.root, name, "-o", folder / "it", "--json")
    assert code == 0, err
    return [Path(each["file"]) for each in json.loads(out)["proofs"]]


def test_a_migration_holds_with_nothing_but_what_was_handed_over(
    proven: tuple[LocalMigration, tuple[str, ...]], tmp_path: Path
) -> None:
    move, keys = proven
    for name in ("proof", "history"):
        shutil.copytree(move.root / name, tmp_path / name)
    assert (tmp_path / "proof/check.py").read_bytes() == CHECKER.read_bytes()
    found = checked_alone(tmp_path, Path(sys.executable), *keys, tmp_path / "proof")
    assert found.code == HOLDS, found.said
    assert "outcome DELETED 1 " in found.said
    shutil.rmtree(tmp_path / "history")
    found = checked(*keys, tmp_path / "proof")
    assert found.code == NOT_CHECKED, found.said


@pytest.mark.parametrize("name", ["a", "d/b", "e", "f", "é %", "never"])
def test_names_are_proven_through_all_passes(
    proven: tuple[LocalMigration, tuple[str, ...]], tmp_path: Path, name: str
) -> None:
    move, keys = proven
    files = proofs(move, name, tmp_path)
    found = checked(*keys, "--name", name, move.root / "proof", *files)
    assert found.code == HOLDS, found.said
    found = checked(*keys, "--name", f"{name}x", move.root / "proof", *files)
    assert found.code == REFUSED, found.said


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_random_tamperings_of_what_was_handed_over(
    proven: tuple[LocalMigration, tuple[str, ...]], tmp_path: Path
) -> None:
    move, keys = proven
    for name in ("proof", "history"):
        shutil.copytree(move.root / name, tmp_path / name)
    (tmp_path / "proof/sample.py").unlink()
    rng = random.Random("a real move")
    paths = sorted(
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix != ".vkey" and not path.name.startswith(".")
    )
    refused = 0
    for _ in range(TAMPERINGS):
        path = rng.choice(paths)
        kept, packed = path.read_bytes(), path.suffix == ".gz"
        way: Callable[..., bytes] = rng.choice(BYTES if packed else TEXT)
        path.write_bytes(way(rng, kept, rng.choice(paths).read_bytes()))
        found = checked(*keys, tmp_path / "proof")
        changed = unpacked(path.read_bytes()) != unpacked(kept) if packed else True
        same = not changed or path.read_bytes() == kept
        assert found.code == REFUSED or same or replaced_only(found.said), (
            f"{way.__name__} in {path}\n{found.said}"
        )
        refused += found.code == REFUSED
        path.write_bytes(kept)
    assert refused > TAMPERINGS * 0.7
    assert checked(*keys, tmp_path / "proof").code == HOLDS


def replaced_only(said: str) -> bool:
    """A checkpoint that a later one has replaced lost its signature, and that is said."""
    return "replaced: not signed by a trusted key" in said
