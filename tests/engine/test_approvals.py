"""Approvals: of one proof by one person, with a key that signs them if it is of the right kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from noria.engine.approvals import Approval, approval_facts, approvals_of, lacking
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import history
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Facts, Record, RecordKind

JOB = "0123456789ab"
SECRET = b"correct horse"
FORMS = {"openssh": PrivateFormat.OpenSSH, "pem": PrivateFormat.PKCS8}


@pytest.fixture
def directory(tmp_path: Path) -> JobDirectory:
    return JobDirectory.create(tmp_path / "move", {"id": JOB})


@pytest.fixture
def proof(directory: JobDirectory) -> Record:
    return history.append(directory, RecordKind.PROVED, {"pass": 2, "objects": 9})


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[[str], Path]:
    """A new OpenSSH key of that name, as `ssh-keygen -N ''` makes it."""

    def make(name: str) -> Path:
        return write_key(tmp_path / name, Ed25519PrivateKey.generate())

    return make


def write_key(
    path: Path,
    key: Ed25519PrivateKey | Ed448PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    form: PrivateFormat = PrivateFormat.OpenSSH,
    passphrase: bytes | None = None,
) -> Path:
    lock = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    path.write_bytes(key.private_bytes(Encoding.PEM, form, lock))
    return path


def approve(directory: JobDirectory, proof: Record, name: str, key: Path | None = None) -> Record:
    facts = approval_facts(JOB, proof, name, key)
    return history.append(directory, RecordKind.APPROVED, facts)


def found(directory: JobDirectory) -> list[Approval]:
    return approvals_of(JOB, history.read(directory))


@pytest.mark.parametrize("form", FORMS)
def test_a_signed_approval_comes_back_with_its_public_key(
    directory: JobDirectory, proof: Record, tmp_path: Path, form: str
) -> None:
    key = Ed25519PrivateKey.generate()
    approve(directory, proof, "Ann", write_key(tmp_path / "key", key, FORMS[form]))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    assert found(directory) == [Approval(name="Ann", key=public)]


def test_the_history_holds_nothing_of_the_private_key(
    directory: JobDirectory, proof: Record, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    approve(directory, proof, "Ann", write_key(tmp_path / "key", key))
    text = b"".join(each.read_bytes() for each in directory.path("history").iterdir())
    assert key.private_bytes_raw().hex().encode() not in text


def test_an_approval_without_a_key_says_so(directory: JobDirectory, proof: Record) -> None:
    approve(directory, proof, "Ann")
    assert found(directory) == [Approval(name="Ann", key=None)]


LOCKED = """\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABDDs+A5M/
GHBa3MGM3UV2aLAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIDuJnshow0fS15D9
pYpBTM+8CgrfjKq2TanBFXI96TaYAAAAkGEmWQ+H4ENOrQrxQwLXdb1OHA2X9SjdqaPERv
+2bqewd39NA320NgwACvjMkfyvzKG2PJvhYjXiISe4OhUWhK9VKKSQ65VYQ8oMrpn0xmAe
Iu4iSPerjJ5+j1EeqK1tLYUY28vWH7G/3JsFXlaY9VkHdFPFqlWTRqx/ck7Ks8bVn6wo7u
ds8xjNAHWZEsiccQ==
-----END OPENSSH PRIVATE KEY-----
"""
"""Of `ssh-keygen -t ed25519` with a passphrase, for nothing else."""


def locked(path: Path) -> Path:
    path.write_text(LOCKED)
    return path


OPENSSH, PKCS8 = PrivateFormat.OpenSSH, PrivateFormat.PKCS8
WRONG: dict[str, Callable[[Path], Path]] = {
    "rsa": lambda path: write_key(path, rsa.generate_private_key(65537, 1024), OPENSSH),
    "rsa_pem": lambda path: write_key(path, rsa.generate_private_key(65537, 1024), PKCS8),
    "ecdsa": lambda path: write_key(path, ec.generate_private_key(ec.SECP256R1()), OPENSSH),
    "ed448": lambda path: write_key(path, Ed448PrivateKey.generate(), PKCS8),
    "passphrase": locked,
    "passphrase_pem": lambda path: write_key(path, Ed25519PrivateKey.generate(), PKCS8, SECRET),
}


@pytest.mark.parametrize("kind", WRONG)
def test_another_kind_of_key_is_refused_with_what_makes_a_right_one(
    proof: Record, tmp_path: Path, kind: str
) -> None:
    file = WRONG[kind](tmp_path / "id")
    with pytest.raises(ConfigurationError) as refused:
        approval_facts(JOB, proof, "Ann", file)
    assert "is not an Ed25519 private key without a passphrase" in refused.value.message
    assert "ssh-keygen -t ed25519 -N '' -f id" in refused.value.message


@pytest.mark.parametrize("data", [b"", b"\0\xff" * 50, b"ssh-ed25519 AAAA ann@desk\n"])
def test_what_is_no_private_key_is_refused(proof: Record, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "id.pub").write_bytes(data)
    with pytest.raises(ConfigurationError, match="is not an Ed25519 private key"):
        approval_facts(JOB, proof, "Ann", tmp_path / "id.pub")


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_key_that_cannot_be_read_says_why(proof: Record, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the key .*: (No such|Is a dir)"):
        approval_facts(JOB, proof, "Ann", tmp_path / name)


CHANGES: dict[str, Callable[[Facts], Facts]] = {
    "name": lambda facts: {**facts, "name": "Bob"},
    "key": lambda facts: {**facts, "key": "00" * 32},
    "key_of_another_length": lambda facts: {**facts, "key": "00"},
    "signature": lambda facts: {**facts, "signature": "00" * 64},
    "no_signature": lambda facts: {k: v for k, v in facts.items() if k != "signature"},
    "no_hex": lambda facts: {**facts, "signature": "zz"},
    "number": lambda facts: {**facts, "key": 7},
    "no_name": lambda facts: {k: v for k, v in facts.items() if k != "name"},
}


@pytest.mark.parametrize("what", CHANGES)
def test_an_approval_that_was_made_up_stops_everything(
    directory: JobDirectory, proof: Record, key_file: Callable[[str], Path], what: str
) -> None:
    """Written as a record of its own: the chain of digests is whole, the signature is not."""
    facts = CHANGES[what](approval_facts(JOB, proof, "Ann", key_file("ann")))
    record = history.append(directory, RecordKind.APPROVED, facts)
    with pytest.raises(JobDirectoryError, match=f"signature of record {record.number} of the"):
        found(directory)


def test_an_approval_without_a_key_or_a_name_is_none(
    directory: JobDirectory, proof: Record
) -> None:
    history.append(directory, RecordKind.APPROVED, {})
    with pytest.raises(JobDirectoryError, match="is not right"):
        found(directory)


def test_a_signature_is_of_one_migration(
    directory: JobDirectory, proof: Record, key_file: Callable[[str], Path]
) -> None:
    approve(directory, proof, "Ann", key_file("ann"))
    with pytest.raises(JobDirectoryError, match="is not right"):
        approvals_of("another", history.read(directory))


@pytest.mark.parametrize("other", [{"number": 7}, {"digest": "ab" * 32}])
def test_a_signature_is_of_one_proof(
    directory: JobDirectory, proof: Record, key_file: Callable[[str], Path], other: dict[str, Any]
) -> None:
    approve(directory, replace(proof, **other), "Ann", key_file("ann"))
    with pytest.raises(JobDirectoryError, match="is not right"):
        found(directory)


def test_a_new_proof_has_no_approvals_yet(directory: JobDirectory, proof: Record) -> None:
    approve(directory, proof, "Ann")
    again = history.append(directory, RecordKind.PROVED, {"pass": 3})
    assert found(directory) == []
    approve(directory, again, "Bob")
    assert [each.name for each in found(directory)] == ["Bob"]


def test_without_a_proof_nothing_is_approved(directory: JobDirectory) -> None:
    history.append(directory, RecordKind.APPROVED, {"name": "Ann"})
    assert found(directory) == []


NOBODY: list[tuple[str, str | None]] = []
ASKED = "an approval: --approve-as NAME"
TWO_ASKED = "signed approvals of two people, with a key each"


@pytest.mark.parametrize(
    ("people", "of_one", "of_two"),
    [
        (NOBODY, ASKED, ASKED),
        ([("Ann", None)], None, TWO_ASKED),
        ([("Ann", None), ("Bob", None)], None, TWO_ASKED),
        ([("Ann", "a")], None, TWO_ASKED),
        ([("Ann", "a"), ("Bob", None)], None, TWO_ASKED),
        ([("Ann", "a"), ("Bob", "a")], None, TWO_ASKED),
        ([("Ann", "a"), ("Ann", "b")], None, TWO_ASKED),
        ([("Ann", "a"), ("Ann", "a")], None, TWO_ASKED),
        ([("Ann", "a"), ("Bob", "b")], None, None),
        ([("Ann", "a"), ("Ann", "b"), ("Bob", None)], None, TWO_ASKED),
        ([("Ann", None), ("Bob", "b"), ("Cid", "c")], None, None),
        ([("Ann", "a"), ("Ann", "b"), ("Bob", "a")], None, None),
    ],
)
def test_what_is_missing_before_a_switch(
    people: list[tuple[str, str | None]], of_one: str | None, of_two: str | None
) -> None:
    approvals = [Approval(name=name, key=key) for name, key in people]
    assert lacking(approvals, two_people=False) == of_one
    asked = lacking(approvals, two_people=True)
    assert asked == of_two or (of_two == TWO_ASKED and str(asked).startswith(TWO_ASKED))
