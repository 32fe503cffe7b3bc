"""Write and parse the XML of the Blob service REST API. Pure functions over bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from noria.workers.stores.listing import check_names_and_sizes, inventory_batch
from noria.workers.stores.protocol import Page
from noria.workers.stores.responses import malformed_is_unavailable, plain_etag
from noria.workers.stores.xml import check_root, parse_document

_COLUMNS: Final = {
    "size": "Content-Length",
    "version_id": "VersionId",
    "content_type": "Content-Type",
    "content_encoding": "Content-Encoding",
    "content_language": "Content-Language",
    "content_disposition": "Content-Disposition",
    "cache_control": "Cache-Control",
    "tier": "AccessTier",
    "archive_status": "ArchiveStatus",
    "blob_type": "BlobType",
    "customer_key_sha256": "CustomerProvidedKeySha256",
}
"""Inventory columns and their names in a listing; all other columns need a conversion."""
_RFC1123: Final = "%a, %d %b %Y %H:%M:%S GMT"


def parse_root(body: bytes) -> ElementTree.Element:
    """Return the document's root. Raises ElementTree.ParseError.

    A literal CR is kept, which a parser would otherwise turn into a line feed.
    """
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if b"\r" in body:
        # Azure writes no line breaks between elements, so a CR is part of a name or a value.
        start = body.find(b"?>") + 2 if body.startswith(b"<?") else 0
        body = body[:start] + body[start:].lstrip().replace(b"\r", b"&#13;")
    return parse_document(body)


@malformed_is_unavailable("a listing")
def parse_blobs(root: ElementTree.Element) -> Page:
    """Parse a page of List Blobs. Directories of a hierarchical account count as folder stubs."""
    check_root(root, "EnumerationResults")
    blobs = root.find("Blobs")
    if blobs is None:
        # Azure writes the element into every page. What has none is not a page, least an empty one.
        raise ValueError("a page without a list of blobs")
    rows: list[dict[str, str | None]] = []
    names: list[str] = []
    metadata: list[str | None] = []
    tags: list[str | None] = []
    folders: list[bool] = []
    prefixes: list[str] = []
    for item in blobs:
        if item.tag == "BlobPrefix":
            prefixes.append(_name(item))
            continue
        row: dict[str, str | None] = {}
        meta: dict[str, str] = {}
        tagged: dict[str, str] | None = None
        for child in item:
            if child.tag == "Properties":
                for field in child:
                    row[field.tag] = field.text
            elif child.tag == "Metadata":
                meta = {field.tag: field.text or "" for field in child}
            elif child.tag == "Tags":
                tagged = parse_tags(child)
            else:
                row[child.tag] = child.text
        rows.append(row)
        names.append(_name(item))
        metadata.append(_json(meta) if meta else None)
        tags.append(_json(tagged) if tagged is not None else None)
        folders.append(_is_folder(row, meta))
    columns: dict[str, Sequence[object] | pa.Array] = {
        column: [row.get(tag) for row in rows] for column, tag in _COLUMNS.items()
    }
    columns["key"] = names
    columns["metadata"] = metadata
    columns["tags"] = tags
    columns["is_folder"] = folders
    columns["etag"] = [plain_etag(row.get("Etag") or "") for row in rows]
    columns["last_modified"] = _timestamps([row.get("Last-Modified") for row in rows])
    columns["content_md5"] = [_binary(row.get("Content-MD5")) for row in rows]
    columns["crc64nvme"] = pa.array(
        [_little_endian(row.get("Content-CRC64")) for row in rows], pa.uint64()
    )
    return Page(
        batch=check_names_and_sizes(inventory_batch(columns, len(rows))),
        prefixes=prefixes,
        next_marker=root.findtext("NextMarker") or None,
    )


@malformed_is_unavailable("tags")
def parse_tags(root: ElementTree.Element) -> dict[str, str]:
    check_root(root, "Tags")
    return {item.findtext("Key", ""): item.findtext("Value", "") for item in root.iter("Tag")}


@malformed_is_unavailable("a list of blocks")
def parse_uncommitted(root: ElementTree.Element) -> list[tuple[str, int]]:
    """Return each block's decoded name and its size, in the order of the response."""
    check_root(root, "BlockList")
    return [
        (_block_name(item.findtext("Name", "")), int(item.findtext("Size", "0")))
        for item in root.iterfind("UncommittedBlocks/Block")
    ]


def block_list(block_ids: Iterable[str]) -> bytes:
    """Return the body of Put Block List for blocks that are not committed yet."""
    items = "".join(f"<Uncommitted>{block_id}</Uncommitted>" for block_id in block_ids)
    return f'<?xml version="1.0" encoding="utf-8"?><BlockList>{items}</BlockList>'.encode()


def _name(item: ElementTree.Element) -> str:
    """Return an item's name. Names that XML cannot contain are percent-encoded and marked so."""
    element = item.find("Name")
    if element is None:
        return ""
    text = element.text or ""
    return unquote(text) if element.get("Encoded") == "true" else text


def _block_name(block_id: str) -> str:
    return base64.b64decode(block_id).decode("latin-1")


def _is_folder(row: dict[str, str | None], metadata: dict[str, str]) -> bool:
    if row.get("ResourceType") == "directory":
        return True
    return any(
        name.lower() == "hdi_isfolder" and value.lower() == "true"
        for name, value in metadata.items()
    )


def _json(values: dict[str, str]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _timestamps(texts: list[str | None]) -> pa.Array:
    parsed = pc.strptime(pa.array(texts, pa.string()), format=_RFC1123, unit="ms")
    return pc.assume_timezone(parsed, "UTC")


def _binary(text: str | None) -> bytes | None:
    return base64.b64decode(text) if text else None


def _little_endian(text: str | None) -> int | None:
    return int.from_bytes(base64.b64decode(text), "little") if text else None
