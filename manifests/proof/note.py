"""Signed notes as C2SP has them: a text, and lines of signatures over it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

SIGNATURE_BYTES: Final = 64
PUBLIC_BYTES: Final = 32
NOTE_BYTES_MAX: Final = 1 << 20
"""More is not a note of ours."""
NAME_LETTERS_MAX: Final = 200
_DASH: Final = "\N{EM DASH} "
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f]")
_KEY_LINE: Final = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


class SignatureType(IntEnum):
    """What a signature is of; the byte that C2SP assigns."""

    OPERATOR = 0x01
    """The text itself."""
    COSIGNER = 0x04
    """The text, after a line that says when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteKey:
    """A public Ed25519 key that signs notes under a name."""

    name: str
    type: SignatureType
    public: bytes

    @property
    def id(self) -> bytes:
        """4 bytes, which a signature begins with."""
        said = self.name.encode() + b"\n" + bytes([self.type]) + self.public
        return hashlib.sha256(said).digest()[:4]

    @property
    def line(self) -> str:
        """NAME+ID+KEY, as C2SP writes keys; without a newline."""
        key = base64.b64encode(bytes([self.type]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteSignature:
    """A line of a note; nobody has checked it yet."""

    name: str
    key_id: bytes
    signature: bytes
    """What the key's type says: 64 bytes, or the time in 8 and 64."""

    @property
    def line(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A text and its signatures, of which there may be none yet."""

    text: bytes
    """To its last newline."""
    signatures: Sequence[NoteSignature] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def stamped(self) -> bytes:
        """What a time stamp is of: the text and its first signature. Later ones do not change it.

        Only of a note that is signed.
        """
        return self.text + b"\n" + self.signatures[0].line.encode()

    def encode(self) -> bytes:
        return self.text + b"\n" + "".join(each.line for each in self.signatures).encode()

    def of(self, key: NoteKey) -> list[NoteSignature]:
        """The signatures that say that they are by a key."""
        said = (key.name, key.id)
        return [each for each in self.signatures if (each.name, each.key_id) == said]


def read_note(data: bytes) -> Note:
    """The note that these bytes are. Raises ValueError if they are none."""
    if len(data) > NOTE_BYTES_MAX:
        raise ValueError("a note is too long")
    said = data.decode()
    if _CONTROL.search(said):
        raise ValueError("a note has control characters")
    text, gap, lines = said.rpartition("\n\n")
    if not gap or not text or (lines and not lines.endswith("\n")):
        raise ValueError("a note has no lines for signatures")
    signatures = map(_read_signature, lines.split("\n")[:-1])
    return Note(text=(text + "\n").encode(), signatures=tuple(signatures))


def _read_signature(line: str) -> NoteSignature:
    words = line.removeprefix(_DASH).split(" ")
    if not line.startswith(_DASH) or len(words) != 2:
        raise ValueError("a line of a note is not a signature")
    name, data = words[0], _decoded(words[1])
    check_name(name)
    if len(data) <= 4:
        raise ValueError("a signature of a note is too short")
    return NoteSignature(name=name, key_id=data[:4], signature=data[4:])


def read_key(line: str) -> NoteKey:
    """The key of a line NAME+ID+KEY. Raises ValueError if it is none, or not of Ed25519."""
    found = _KEY_LINE.fullmatch(line.strip())
    if not found:
        raise ValueError("this is not a line NAME+ID+KEY")
    data = _decoded(found[3])
    if len(data) != 1 + PUBLIC_BYTES:
        raise ValueError("this is not an Ed25519 key")
    key = NoteKey(name=found[1], type=SignatureType(data[0]), public=data[1:])
    if key.id.hex() != found[2]:
        raise ValueError("the key has another id than its line says")
    return key


def check_name(name: str) -> None:
    """Raise ValueError for a name that a note cannot have."""
    plain = name and name.isprintable() and len(name) <= NAME_LETTERS_MAX
    if not plain or "+" in name or any(sign.isspace() for sign in name):
        raise ValueError("the name of a key is not empty, and has no spaces and no +")


def signed_bytes(kind: SignatureType, text: bytes, seconds: int) -> bytes:
    """What a key of this type signs; `seconds` is Unix time, which only a cosigner states."""
    if kind is SignatureType.OPERATOR:
        return text
    return b"cosignature/v1\ntime %d\n" % seconds + text


def signature_line(key: NoteKey, signature: bytes, seconds: int) -> NoteSignature:
    """The line of a signature over signed_bytes()."""
    stated = b"" if key.type is SignatureType.OPERATOR else seconds.to_bytes(8, "big")
    return NoteSignature(name=key.name, key_id=key.id, signature=stated + signature)


def taken_apart(key: NoteKey, line: NoteSignature) -> tuple[bytes, int | None]:
    """The 64 bytes of a line by this key, and the time that it states.

    Raises ValueError if it has another length.
    """
    stated = 0 if key.type is SignatureType.OPERATOR else 8
    if len(line.signature) != stated + SIGNATURE_BYTES:
        raise ValueError("a signature has another length than its type")
    seconds = int.from_bytes(line.signature[:stated], "big") if stated else None
    return line.signature[stated:], seconds


def with_signatures(note: Note, lines: Iterable[NoteSignature]) -> Note:
    """The note with further lines; one that is there already is not repeated."""
    added = dict.fromkeys([*note.signatures, *lines])
    return Note(text=note.text, signatures=tuple(added))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("this is not base64") from error
