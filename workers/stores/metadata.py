"""What Noria writes beside an object's own metadata, and how metadata travels in headers.

Two marks: `noriatxid`, by which a transfer knows its own work, and `mtime`, the source's
Last-Modified as Unix seconds, which rclone reads the same way. A source that has an `mtime` of its
own keeps it. Marks come off again only where a noriatxid says that they are ours. Names compare
without case: Azure keeps it, S3 lowers it, rclone capitalises it.

S3 takes non-ASCII values as RFC 2047 encoded words and gives them back so ("Working with object
metadata", Amazon S3 User Guide). Azure takes ASCII alone. What cannot travel is refused, never cut.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Final

from noria.manifests.errors import TargetRefused
from noria.manifests.model import Attributes

TXID: Final = "noriatxid"
MTIME: Final = "mtime"
MARK_BYTES_MAX: Final = 256
"""Room that a plan leaves for both marks, names included."""

_MARKS: Final = (TXID, MTIME)
_WORD_BYTES: Final = 45
"""UTF-8 bytes in one encoded word: 60 characters of base64; RFC 2047 allows 75 in all."""
_SAFE = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")
"""Single spaces alone: signatures fold runs of them."""
_ASCII = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def with_marks(attributes: Attributes, txid: str, *, key: str) -> dict[str, str]:
    """Metadata to write: its own, and the marks. Raises TargetRefused for names that collide."""
    metadata: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in attributes.metadata.items():
        if name.lower() in seen:
            raise TargetRefused("two metadata names differ in case alone: rename one", key=key)
        seen.add(name.lower())
        if name.lower() != TXID:
            metadata[name] = value
    metadata[TXID] = txid
    if attributes.modified_seconds is not None and MTIME not in seen:
        metadata[MTIME] = repr(attributes.modified_seconds).removesuffix(".0")
    return metadata


def without_marks(metadata: Mapping[str, str]) -> tuple[dict[str, str], str | None, float | None]:
    """An object's own metadata, its transfer id, and the source's Last-Modified if stated."""
    if not metadata:
        return {}, None, None
    marks = {name.lower(): value for name, value in metadata.items() if name.lower() in _MARKS}
    own = {name: value for name, value in metadata.items() if name.lower() not in _MARKS}
    txid = marks.get(TXID)
    modified = _number(marks.get(MTIME))
    if MTIME in marks and (txid is None or modified is None):
        return {**own, MTIME: marks[MTIME]}, txid, None
    return own, txid, modified


def encode_words(value: str, *, key: str) -> str:
    """A metadata value as an S3 header: itself where that is safe, else RFC 2047 encoded words."""
    if _SAFE.fullmatch(value) and "=?" not in value:
        return value
    if _CONTROL.search(value):
        raise TargetRefused("a metadata value holds a control character: change it", key=key)
    words: list[bytes] = [b""]
    for character in value:
        encoded = character.encode()
        if len(words[-1]) + len(encoded) > _WORD_BYTES:
            words.append(b"")
        words[-1] += encoded
    return " ".join(f"=?UTF-8?B?{base64.b64encode(word).decode()}?=" for word in words)


def decode_words(value: str) -> str:
    """The inverse of encode_words, for whatever words a store gives back."""
    if not (value.startswith("=?") and value.endswith("?=")):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, UnicodeDecodeError, LookupError):
        return value


def require_ascii(name: str, value: str, *, key: str) -> str:
    """A header value that travels as it is, or TargetRefused."""
    if value and not _ASCII.fullmatch(value):
        raise TargetRefused(f"its {name} holds characters that no header can carry", key=key)
    return value


def require_token(name: str, *, key: str) -> str:
    """A metadata name that may be part of a header's name (RFC 9110, 5.6.2), or TargetRefused."""
    if not _TOKEN.fullmatch(name):
        raise TargetRefused("a metadata name holds characters that no header can carry", key=key)
    return name


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
