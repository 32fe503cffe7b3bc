"""Who signs: a key in a file, one that ssh-agent holds, or a command of the user's.

The last two have their secret elsewhere (a hardware token, an HSM, a key service): Noria has the
public key, and checks with it each signature that it is given.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from noria.engine.signing_keys import read_private_key, read_public_key, refuse_shared_key
from noria.manifests.errors import ConfigurationError
from noria.manifests.proof.note import SIGNATURE_BYTES

COMMAND_SECONDS: Final = 120.0
"""A person may have to touch a token."""
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_ANSWER_BYTES_MAX: Final = 4096
_KEY_KIND: Final = b"ssh-ed25519"


class NoteSigner(Protocol):
    """Something that signs with one Ed25519 key."""

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""

    def sign(self, data: bytes) -> bytes:
        """64 bytes. Raises ConfigurationError if it does not sign."""


@dataclass(frozen=True, slots=True)
class FileSigner:
    """A private key in a file."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        return self.key.sign(data)


@dataclass(frozen=True, slots=True)
class AgentSigner:
    """A private key that ssh-agent holds (draft-ietf-sshm-ssh-agent)."""

    public: bytes
    socket_path: str

    def sign(self, data: bytes) -> bytes:
        key = _string(_KEY_KIND) + _string(self.public)
        request = bytes([_SIGN_REQUEST]) + _string(key) + _string(data) + struct.pack(">I", 0)
        try:
            with socket.socket(socket.AF_UNIX) as agent:
                agent.settimeout(COMMAND_SECONDS)
                agent.connect(self.socket_path)
                agent.sendall(_string(request))
                answer = _read_string(agent)
        except OSError as error:
            raise ConfigurationError(
                f"ssh-agent at {self.socket_path} does not sign: {error.strerror or error}"
            ) from error
        # Its kind, its length, and a signature: the length and kind and 64 bytes again.
        lead = _string(_KEY_KIND) + struct.pack(">I", SIGNATURE_BYTES)
        expected = bytes([_SIGN_RESPONSE]) + struct.pack(">I", len(lead) + SIGNATURE_BYTES) + lead
        if not answer.startswith(expected) or len(answer) != len(expected) + SIGNATURE_BYTES:
            raise ConfigurationError(
                "ssh-agent does not sign with this key: `ssh-add -l` shows which it has"
            )
        return answer[len(expected) :]


@dataclass(frozen=True, slots=True)
class CommandSigner:
    """A command that is given the bytes on its standard input, and prints the signature.

    As 64 bytes or as base64 of them.
    """

    public: bytes
    command: str

    def sign(self, data: bytes) -> bytes:
        try:
            done = subprocess.run(
                self.command, shell=True, input=data, capture_output=True, timeout=COMMAND_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise ConfigurationError(
                f"the signing command took more than {COMMAND_SECONDS:.0f} s"
            ) from error
        if done.returncode:
            raise ConfigurationError(f"the signing command ended with exit code {done.returncode}")
        if len(done.stdout) == SIGNATURE_BYTES:
            return done.stdout
        try:
            return base64.b64decode(b"".join(done.stdout.split()), validate=True)
        except binascii.Error as error:
            raise ConfigurationError(
                "the signing command printed neither 64 bytes nor base64"
            ) from error


def open_signer(
    key_file: Path, command: str | None, environment: Mapping[str, str] = os.environ
) -> NoteSigner:
    """What signs with the key of a file: the file itself if it is a private key.

    Of a public key, the command has the private half, or ssh-agent if there is no command. Raises
    ConfigurationError.
    """
    public = read_public_key(key_file)
    if public is None:
        if command is not None:
            raise ConfigurationError(
                f"{key_file} is not an Ed25519 public key: beside a signing command, the file says "
                "which key it signs with"
            )
        key = read_private_key(key_file)
        refuse_shared_key(key_file)
        return FileSigner(key)
    if command is not None:
        return CommandSigner(public.public_bytes_raw(), command)
    agent = environment.get("SSH_AUTH_SOCK")
    if not agent:
        raise ConfigurationError(
            f"{key_file} is a public key, and no ssh-agent is there to sign with it "
            "(SSH_AUTH_SOCK): name the private key, or a signing command"
        )
    return AgentSigner(public.public_bytes_raw(), agent)


def signed(signer: NoteSigner, data: bytes) -> bytes:
    """The signature, checked with the public key. Raises ConfigurationError if it is not right."""
    signature = signer.sign(data)
    if not is_signed(signer.public, signature, data):
        raise ConfigurationError(
            "the signature that was given is not right for the public key: another key signed, or "
            "other bytes"
        )
    return signature


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature is that of the key over these bytes."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _read_string(agent: socket.socket) -> bytes:
    """Raises OSError if the agent closes the connection, or says too much."""
    (length,) = struct.unpack(">I", _read_exactly(agent, 4))
    if length > _ANSWER_BYTES_MAX:
        raise OSError("its answer is too long")
    return _read_exactly(agent, length)


def _read_exactly(agent: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = agent.recv(length - len(data))
        if not piece:
            raise OSError("it closed the connection")
        data += piece
    return data
