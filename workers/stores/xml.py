"""Parse XML from bytes, for the S3 and the Azure dialect; ParseError is the only error."""

from __future__ import annotations

from xml.etree import ElementTree


def parse_document(body: bytes) -> ElementTree.Element:
    """Return the root. Raises ParseError, also for encodings that expat does not know.

    Entities are expanded within expat's bounds; external ones are never read.
    """
    try:
        return ElementTree.fromstring(body)
    except (ValueError, LookupError) as error:
        raise ElementTree.ParseError(f"not XML: {error}") from None


def check_root(root: ElementTree.Element, tag: str) -> None:
    """Raise ValueError if it is another document: a proxy's page would otherwise list nothing."""
    if root.tag != tag:
        raise ValueError(f"not a {tag} document")
