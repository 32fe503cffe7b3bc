"""XML as bytes: the document, and nothing but ParseError where it is none. For both dialects."""

from __future__ import annotations

from xml.etree import ElementTree


def parse_document(body: bytes) -> ElementTree.Element:
    """The root. Raises ParseError, also for encodings that expat does not know.

    Entities are expanded within expat's bounds; none is ever read from elsewhere.
    """
    try:
        return ElementTree.fromstring(body)
    except (ValueError, LookupError) as error:
        raise ElementTree.ParseError(f"no XML: {error}") from None


def check_root(root: ElementTree.Element, tag: str) -> None:
    """Raises ValueError for another document: a page of a proxy's would list nothing."""
    if root.tag != tag:
        raise ValueError(f"another document than {tag}")
