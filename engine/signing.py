"""Ed25519: a private key from a file, what it signs, and whether a signature is right.

Keys and signatures are hex, as records have them: 32 bytes of a public key, 64 of a signature. What
is signed begins with a line that says what it is, so that no signature can stand for another.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from noria.engine.signing_keys import read_private_key


class SigningKey:
    """A private key that signs; open_key() reads one from its file."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @property
    def public(self) -> str:
        """Its public key, in hex."""
        return self._private.public_key().public_bytes_raw().hex()

    def sign(self, text: bytes) -> str:
        """The signature of this text, in hex."""
        return self._private.sign(text).hex()


def open_key(file: Path) -> SigningKey:
    """The Ed25519 private key in a file: OpenSSH's form or PEM, without a passphrase.

    Raises ConfigurationError if it cannot be read, or is another one.
    """
    return SigningKey(read_private_key(file))


def is_signed(text: bytes, *, key: object, signature: object) -> bool:
    """Whether this is the signature of the text by the private half of `key`; both are hex.

    False for what is neither: they come from files that others may have written.
    """
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(key)))
        public.verify(bytes.fromhex(str(signature)), text)
    except (ValueError, InvalidSignature):
        return False
    return True
