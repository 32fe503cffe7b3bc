"""The metadata that Noria adds to an object, and the form of all metadata in headers.

Noria adds two entries of provenance metadata: `noriatxid`, by which a transfer recognises its own
work, and `mtime`, the source's Last-Modified as Unix seconds, which rclone reads too. If the source
has an `mtime` of its own, that is kept. When an object is read, the entries are removed only if a
noriatxid shows that Noria wrote them. Names compare without case: Azure keeps the case, S3 lowers
it, rclone capitalises it.

S3 takes and returns non-ASCII values as RFC 2047 encoded words ("Working with object metadata",
Amazon S3 User Guide). Azure takes ASCII alone. Metadata that cannot be sent is refused, never cut.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Final

from noria.manifests.errors import TargetRefused
from noria.manifests.model import Attributes

TXID: Final = "noriatxid"
MTIME: Final = "mtime"
_OWN: Final = (TXID, MTIME)
_WORD_BYTES: Final = 45
"""UTF-8 bytes in one encoded word: 60 characters of base64; RFC 2047 allows 75 in total."""
_ASCII = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def with_provenance(attributes: Attributes, txid: str, *, key: str) -> dict[str, str]:
    """Return the metadata to write: the object's own and Noria's.

    Raises TargetRefused if two names differ in case alone.
    """
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


def split_provenance(
    metadata: Mapping[str, str],
) -> tuple[dict[str, str], str | None, float | None]:
    """Return an object's own metadata, its transfer id, and the source's Last-Modified if stated.

    Last-Modified is in Unix seconds.
    """
    if not metadata:
        return {}, None, None
    added = {name.lower(): value for name, value in metadata.items() if name.lower() in _OWN}
    kept = {name: value for name, value in metadata.items() if name.lower() not in _OWN}
    txid = added.get(TXID)
    modified = _number(added.get(MTIME))
    if MTIME in added and (txid is None or modified is None):
        return {**kept, MTIME: added[MTIME]}, txid, None
    return kept, txid, modified


def encode_words(value: str, *, key: str) -> str:
    """Return a metadata value as an S3 header: as it is, or as encoded words if it would change.

    Servers other than Amazon's hand out encoded words as they are, so nothing is encoded without
    need. Runs of spaces need none: signatures fold them, headers do not. An empty value does:
    SeaweedFS drops its name.
    """
    if value and is_ascii(value) and "=?" not in value:
        return value
    if _CONTROL.search(value):
        raise TargetRefused("a metadata value contains a control character: remove it", key=key)
    words: list[bytes] = [b""]
    for character in value:
        encoded = character.encode()
        if len(words[-1]) + len(encoded) > _WORD_BYTES:
            words.append(b"")
        words[-1] += encoded
    return " ".join(f"=?UTF-8?B?{base64.b64encode(word).decode()}?=" for word in words)


def decode_words(value: str) -> str:
    """Undo encode_words, for any encoded words that a store returns."""
    if not (value.startswith("=?") and value.endswith("?=")):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, UnicodeDecodeError, LookupError):
        return value


def is_token(text: str) -> bool:
    """Return True for what may be part of a header's name (RFC 9110, 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def is_identifier(text: str) -> bool:
    """Return True for a C# identifier of ASCII, as Azure asks of metadata names."""
    return _IDENTIFIER.fullmatch(text) is not None


def is_ascii(text: str) -> bool:
    """Return True for a header's value of printable ASCII, or none."""
    return not text or _ASCII.fullmatch(text) is not None


def is_text(text: str, *, edges: bool = False) -> bool:
    """Return True for a header's value of any printable text; `edges` allows spaces around it.

    Text beyond ASCII goes as UTF-8, which is what clients of S3 write and read (RFC 9110, 5.5:
    opaque bytes).
    """
    return _CONTROL.search(text) is None and (edges or text == text.strip())


def require_text(name: str, value: str, *, key: str) -> str:
    """Return a header value that can be sent unchanged, as UTF-8; else raise TargetRefused."""
    if not is_text(value):
        raise TargetRefused(
            f"its {name} contains characters that no header can carry: change it", key=key
        )
    return value


def require_ascii(name: str, value: str, *, key: str) -> str:
    """Return a header value that can be sent unchanged in ASCII; else raise TargetRefused."""
    if not is_ascii(value):
        raise TargetRefused(
            f"its {name} contains characters that Azure takes in no header: change it", key=key
        )
    return value


def require_token(name: str, *, key: str) -> str:
    """Return a metadata name that may be part of a header's name; else raise TargetRefused.

    RFC 9110, 5.6.2 lists the characters.
    """
    if not is_token(name):
        raise TargetRefused(
            "a metadata name contains characters that no header can carry: rename it", key=key
        )
    return name


def _number(text: str | None) -> float | None:
    """Return a time that can be one; None for `nan`, `inf` and all other text."""
    try:
        number = None if text is None else float(text)
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None
