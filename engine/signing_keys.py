"""Ed25519 keys from files, as ssh-keygen and openssl write them."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from noria.manifests.errors import ConfigurationError


def read_private_key(file: Path) -> Ed25519PrivateKey:
    """Raises ConfigurationError unless it is an Ed25519 private key without a passphrase."""
    data = _read(file)
    for load in (load_ssh_private_key, load_pem_private_key):
        try:
            key = load(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue  # of the other form, or locked by a passphrase
        if isinstance(key, Ed25519PrivateKey):
            return key
    raise ConfigurationError(
        f"{file} is not an Ed25519 private key without a passphrase: make one with "
        f"`ssh-keygen -t ed25519 -N '' -f {file.name}`"
    )


def read_public_key(file: Path) -> Ed25519PublicKey | None:
    """The public key in a file; None if it holds none. Raises ConfigurationError."""
    data = _read(file)
    for load in (load_ssh_public_key, load_pem_public_key):
        try:
            key = load(data)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if isinstance(key, Ed25519PublicKey):
            return key
    return None


def refuse_shared_key(file: Path) -> None:
    """Raise ConfigurationError if others than its owner can read a private key."""
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise ConfigurationError(f"others can read the private key {file}: `chmod 600 {file}`")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the key {file}: {error.strerror}") from error
