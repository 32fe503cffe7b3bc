"""Write and parse the XML of the Blob service REST API. Pure functions over bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import unquote
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc

from noria.workers.stores.azure.texts import CRC_BYTES, MD5_BYTES, checksums, timestamps
from noria.workers.stores.inspection import KeptCounts, KeptKind
from noria.workers.stores.listing import check_names_and_sizes, inventory_batch
from noria.workers.stores.peeling import ENCODED, PeeledItems, in_order, joined
from noria.workers.stores.protocol import Page
from noria.workers.stores.responses import malformed_is_unavailable, plain_etags
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
_METADATA: Final = "Metadata/"


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
def parse_blobs(root: ElementTree.Element, peeled: Sequence[PeeledItems] = ()) -> Page:
    """Parse a page of List Blobs. Directories of a hierarchical account count as folder stubs.

    `peeled` are the Blobs that were taken out of the document; they come first.
    """
    check_root(root, "EnumerationResults")
    blobs = root.find("Blobs")
    if blobs is None:
        # Azure writes the element into every page. What has none is not a page, least an empty one.
        raise ValueError("a page without a list of blobs")
    batches = [in_order(peeled, _peeled_blobs)] if peeled else []
    items = [item for item in blobs if item.tag != "BlobPrefix"]
    if items or not batches:
        batches.append(_parsed_blobs(items))
    return Page(
        batch=joined(batches),
        prefixes=[_name(item) for item in blobs if item.tag == "BlobPrefix"],
        next_marker=root.findtext("NextMarker") or None,
    )


@malformed_is_unavailable("a listing")
def count_kept(root: ElementTree.Element, counts: KeptCounts) -> Hashable | None:
    """Count all but the current blobs of a page of List Blobs.

    Returns what tells the page from another one; None for a page without blobs.
    """
    check_root(root, "EnumerationResults")
    blobs = root.find("Blobs")
    if blobs is None:
        raise ValueError("a page without a list of blobs")
    for item in blobs:
        size = int(item.findtext("Properties/Content-Length") or 0)
        if item.findtext("Deleted") == "true":
            counts.add(KeptKind.DELETED, size)
        elif item.findtext("Snapshot"):
            counts.add(KeptKind.SNAPSHOT, size)
        elif item.findtext("VersionId") and item.findtext("IsCurrentVersion") != "true":
            counts.add(KeptKind.VERSION, size)
    return tuple("".join(item.itertext()) for item in [*blobs[:1], *blobs[-1:]]) or None


def _parsed_blobs(items: Sequence[ElementTree.Element]) -> pa.RecordBatch:
    rows: list[dict[str, str | None]] = []
    metadata: list[dict[str, str]] = []
    tags: list[dict[str, str] | None] = []
    for item in items:
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
        metadata.append(meta)
        tags.append(tagged)
    return _blob_batch(
        names=[_name(item) for item in items],
        texts={
            tag: pa.array([row.get(tag) for row in rows], pa.string())
            for tag in {tag for row in rows for tag in row}
        },
        metadata=metadata,
        tags=tags,
    )


def _peeled_blobs(items: PeeledItems) -> pa.RecordBatch:
    columns = items.columns()
    names = columns.get("Name")
    if names is None:
        encoded = columns["Name" + ENCODED].to_pylist()
        names = pa.array([unquote(name or "") for name in encoded], pa.string())
    stated = [path for path in columns if path.startswith(_METADATA)]
    metadata = None
    if stated:
        plain = [path.removeprefix(_METADATA) for path in stated]
        metadata = [
            {name: value or "" for name, value in zip(plain, row, strict=True)}
            for row in zip(*(columns[path].to_pylist() for path in stated), strict=True)
        ]
    tags: list[dict[str, str] | None] | None = None
    if any(path.split("/")[0] == "Tags" for path in columns):
        keys, values = (items.texts_of(f"Tags/TagSet/Tag/{part}") for part in ("Key", "Value"))
        tags = [dict(zip(*pair, strict=True)) for pair in zip(keys, values, strict=True)]
    texts = {path.removeprefix("Properties/"): column for path, column in columns.items()}
    return _blob_batch(names=names, texts=texts, metadata=metadata, tags=tags)


def _blob_batch(
    *,
    names: Sequence[str] | pa.Array,
    texts: Mapping[str, pa.Array],
    metadata: Sequence[dict[str, str]] | None,
    tags: Sequence[dict[str, str] | None] | None,
) -> pa.RecordBatch:
    """Make a batch of the texts of blobs, by their tags. Raises ValueError."""
    rows = len(names)
    columns: dict[str, Sequence[object] | pa.Array] = {
        column: texts[tag] for column, tag in _COLUMNS.items() if tag in texts
    }
    columns["key"] = names
    if metadata is not None:
        columns["metadata"] = [_json(each) if each else None for each in metadata]
    if tags is not None:
        columns["tags"] = [None if each is None else _json(each) for each in tags]
    columns["is_folder"] = _folders(texts.get("ResourceType"), metadata, rows)
    columns["etag"] = plain_etags(texts.get("Etag", pa.nulls(rows, pa.string())))
    if "Last-Modified" in texts:
        columns["last_modified"] = timestamps(texts["Last-Modified"])
    if "Content-MD5" in texts:
        columns["content_md5"] = checksums(texts["Content-MD5"], MD5_BYTES)
    if "Content-CRC64" in texts:
        crcs = checksums(texts["Content-CRC64"], CRC_BYTES).to_pylist()
        columns["crc64nvme"] = pa.array(map(_little_endian, crcs), pa.uint64())
    return check_names_and_sizes(inventory_batch(columns, rows))


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


def _folders(
    types: pa.Array | None, metadata: Sequence[dict[str, str]] | None, rows: int
) -> pa.Array:
    """Return which rows are folders: by the account, or by what older drivers have noted."""
    folders = pa.repeat(False, rows)
    if types is not None:
        folders = pc.fill_null(pc.equal(types, "directory"), False)
    if metadata is None:
        return folders
    noted = [
        any(
            name.lower() == "hdi_isfolder" and value.lower() == "true"
            for name, value in each.items()
        )
        for each in metadata
    ]
    return pc.or_(folders, pa.array(noted, pa.bool_()))


def _json(values: dict[str, str]) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _little_endian(crc: bytes | None) -> int | None:
    return int.from_bytes(crc, "little") if crc else None
