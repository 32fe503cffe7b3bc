"""A proof copied elsewhere: compared with what is there, and never replaced."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.benchmarks.servers import S3Server
from noria.engine.config.reading import end_config
from noria.engine.proof.publishing import Published, publish
from noria.engine.proof.signing import SigningWishes, cosign, sign
from noria.manifests.errors import ConfigurationError
from noria.manifests.proof.folder import ProofFolder
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration


@pytest.fixture
def wishes(tmp_path: Path) -> Callable[[str], SigningWishes]:
    def make(name: str) -> SigningWishes:
        path = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(command, check=True)
        return SigningWishes(key=path, name=name)

    return make


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path)
    migration.copy({f"{number}": f"{number}" for number in range(300)})
    return migration


def published(move: LocalMigration, place: Path) -> Published:
    return publish(move.migration, end_config({"url": f"file://{place}"}, "a test"))


def held(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file() and not each.name.startswith(".")
    }


def test_all_of_it_is_copied_once_and_signatures_are_added(
    move: LocalMigration, wishes: Callable[[str], SigningWishes], tmp_path: Path
) -> None:
    place = tmp_path / "evidence" / "move"
    sign(move.migration, wishes("mover"))
    # A checkpoint, a key, the checker in two files.
    assert published(move, place) == Published(written=5, same=0)
    assert held(place) == held(move.root / "proof")
    assert published(move, place) == Published(written=0, same=5)
    cosign(move.migration, wishes("auditor"))
    assert published(move, place) == Published(written=2, same=4)
    assert held(place) == held(move.root / "proof")
    (move.source / "new").write_text("new")
    move.sync()
    sign(move.migration, SigningWishes(key=tmp_path / "mover", name="mover"))
    assert published(move, place) == Published(written=1, same=6)
    assert held(place) == held(move.root / "proof")


def test_a_signature_that_is_there_alone_stays(
    move: LocalMigration, wishes: Callable[[str], SigningWishes], tmp_path: Path
) -> None:
    place = tmp_path / "evidence"
    sign(move.migration, wishes("mover"))
    before = ProofFolder(move.root).file(1).read_bytes()
    cosign(move.migration, wishes("auditor"))
    published(move, place)
    both = (place / "000001" / "checkpoint").read_bytes()
    ProofFolder(move.root).file(1).write_bytes(before)
    published(move, place)
    assert (place / "000001" / "checkpoint").read_bytes() == both


def test_another_proof_there_is_not_replaced(
    move: LocalMigration, wishes: Callable[[str], SigningWishes], tmp_path: Path
) -> None:
    place = tmp_path / "evidence"
    sign(move.migration, wishes("mover"))
    published(move, place)
    for name, change in (
        ("000001/checkpoint", lambda data: data.replace(b"pass 1", b"pass 2")),
        ("000001/checkpoint", lambda data: b"nothing"),
        (next(name for name in held(place) if "tile" in name), lambda data: data[:-1] + b"x"),
    ):
        path = place / name
        whole = path.read_bytes()
        changed = change(whole)
        path.write_bytes(changed)
        with pytest.raises(ConfigurationError, match="says something else"):
            published(move, place)
        assert path.read_bytes() == changed
        path.write_bytes(whole)
    assert published(move, place).written == 0


def test_nothing_is_published_that_nobody_signed(move: LocalMigration, tmp_path: Path) -> None:
    code, _, err = noria("publish-proof", move.root, f"{tmp_path / 'evidence'}/")
    assert (code, "noria sign" in err) == (2, True)
    assert not (tmp_path / "evidence").exists()


def test_to_a_bucket(
    move: LocalMigration,
    wishes: Callable[[str], SigningWishes],
    seaweedfs: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in seaweedfs.env().items():
        monkeypatch.setenv(name, value)
    sign(move.migration, wishes("mover"))
    url = f"s3://{s3_bucket}/of/move-1"
    code, out, err = noria("publish-proof", move.root, url)
    assert code == 0, err
    assert "5 files written, 0 there" in out
    code, out, _ = noria("publish-proof", move.root, url)
    assert "0 files written, 5 there" in out
    cosign(move.migration, wishes("auditor"))
    code, out, _ = noria("publish-proof", move.root, url)
    assert "2 files written, 4 there" in out
    found = seaweedfs.client().get_object(Bucket=s3_bucket, Key="of/move-1/000001/checkpoint")
    assert found["Body"].read() == ProofFolder(move.root).file(1).read_bytes()
