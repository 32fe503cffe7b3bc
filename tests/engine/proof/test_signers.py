"""Signers: a file, a real ssh-agent, and openssl as a user's command; each is checked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from noria.engine.proof.signers import (
    AgentSigner,
    CommandSigner,
    FileSigner,
    is_signed,
    open_signer,
    signed,
)
from noria.manifests.errors import ConfigurationError

DATA = b"a text\n" * 40


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """An OpenSSH key without a passphrase, and key.pub beside it."""
    path = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an ssh-agent of this test's own."""
    place = tmp_path / "agent"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.readline()
    yield {"SSH_AUTH_SOCK": str(place)}
    process.send_signal(signal.SIGTERM)
    process.wait()
    process.stdout.close()


def public_file(key: Path) -> Path:
    return key.with_suffix(".pub")


def pem(folder: Path) -> tuple[Path, Path]:
    """A private and a public key as openssl writes them."""
    private, public = folder / "key.pem", folder / "public.pem"
    for command in (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)],
        ["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return private, public


def test_a_private_key_signs_itself(key: Path, tmp_path: Path) -> None:
    for file in (key, pem(tmp_path)[0]):
        signer = open_signer(file, None, {})
        assert isinstance(signer, FileSigner)
        assert is_signed(signer.public, signed(signer, DATA), DATA)


def test_a_private_key_that_others_can_read_is_refused(key: Path) -> None:
    key.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        open_signer(key, None, {})


def test_of_a_public_key_ssh_agent_has_the_private_half(key: Path, agent: dict[str, str]) -> None:
    signer = open_signer(public_file(key), None, agent)
    assert isinstance(signer, AgentSigner)
    with pytest.raises(ConfigurationError, match="ssh-add -l"):
        signed(signer, DATA)
    subprocess.run(["ssh-add", "-q", str(key)], env={**os.environ, **agent}, check=True)
    assert is_signed(signer.public, signed(signer, DATA), DATA)
    private = open_signer(key, None, {})
    assert signed(signer, DATA) == signed(private, DATA), "Ed25519 has no chance in it"


def test_without_an_agent_a_public_key_signs_nothing(key: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no ssh-agent"):
        open_signer(public_file(key), None, {})
    signer = open_signer(public_file(key), None, {"SSH_AUTH_SOCK": str(tmp_path / "none")})
    with pytest.raises(ConfigurationError, match="does not sign"):
        signed(signer, DATA)


@pytest.mark.parametrize(
    "answer", [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1\5", b"\0\0\0\5\x0e\0\0\0\0"]
)
def test_whatever_an_agent_answers_is_no_signature(
    key: Path, tmp_path: Path, answer: bytes
) -> None:
    place = str(tmp_path / "odd")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()

        def reply() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        signer = open_signer(public_file(key), None, {"SSH_AUTH_SOCK": place})
        with pytest.raises(ConfigurationError, match="ssh-agent"):
            signed(signer, DATA)
        thread.join()


@pytest.mark.parametrize("tail", ["", " | base64"])
def test_a_command_signs(tmp_path: Path, tail: str) -> None:
    private, public = pem(tmp_path)
    # openssl wants a file whose size it can see.
    command = (
        f"cat > {tmp_path}/in; openssl pkeyutl -sign -inkey {private} -rawin -in {tmp_path}/in"
    )
    signer = open_signer(public, command + tail, {})
    assert isinstance(signer, CommandSigner)
    assert is_signed(signer.public, signed(signer, DATA), DATA)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("exit 3", "exit code 3"),
        ("true", "not right"),
        ("head -c 64 /dev/zero", "not right"),
        ("echo '!'", "neither"),
    ],
)
def test_a_command_that_does_not_sign_is_found_out(tmp_path: Path, command: str, why: str) -> None:
    signer = open_signer(pem(tmp_path)[1], command, {})
    with pytest.raises(ConfigurationError, match=why):
        signed(signer, DATA)


def test_a_command_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.engine.proof.signers.COMMAND_SECONDS", 0.2)
    with pytest.raises(ConfigurationError, match="took more than"):
        open_signer(pem(tmp_path)[1], f"exec {sys.executable} -c 'input()' < /dev/zero", {}).sign(
            b""
        )


def test_beside_a_command_stands_a_public_key(key: Path) -> None:
    with pytest.raises(ConfigurationError, match="not an Ed25519 public key"):
        open_signer(key, "true", {})


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(ConfigurationError, match="cannot read"):
        open_signer(other, None, {})
    other.write_text("nothing")
    with pytest.raises(ConfigurationError, match="ssh-keygen"):
        open_signer(other, None, {})


def test_a_signature_is_of_these_bytes_and_this_key_alone() -> None:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = key.sign(DATA)
    assert is_signed(public, signature, DATA)
    assert not is_signed(public, signature, DATA + b"x")
    assert not is_signed(public, signature[:-1], DATA)
    assert not is_signed(b"\0" * 32, signature, DATA)
    assert not is_signed(b"", signature, DATA)
