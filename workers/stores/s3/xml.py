"""Write and parse the XML of S3. Pure functions over bytes; see the Amazon S3 API Reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.model import PartRecord
from noria.workers.http.response import Response
from noria.workers.stores.inspection import KeptCounts, KeptKind
from noria.workers.stores.listing import check_names_and_sizes, inventory_batch
from noria.workers.stores.peeling import PeeledItems, in_order, joined
from noria.workers.stores.protocol import ListedUpload, ListedVersion, Page
from noria.workers.stores.responses import malformed_is_unavailable, plain_etag, plain_etags
from noria.workers.stores.xml import check_root, parse_document

_CODE = re.compile(rb"<Code>([^<]{1,100})</Code>")
_NAMESPACE = re.compile(rb"\sxmlns=\"[^\"]*\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPart:
    number: int
    size: int
    etag: str
    modified: str


def error_code(body: bytes) -> str:
    """Return the <Code> of an error document, or an empty string."""
    found = _CODE.search(body)
    return found[1].decode(errors="replace") if found else ""


def parse_root(body: bytes) -> ElementTree.Element:
    """Return the document's root, without its namespace. Raises ParseError."""
    return parse_document(_NAMESPACE.sub(b"", body.strip(), count=1))


@malformed_is_unavailable("a listing")
def parse_keys(root: ElementTree.Element, peeled: Sequence[PeeledItems] = ()) -> Page:
    """Parse a page of ListObjectsV2 that was requested with encoding-type=url.

    `peeled` are the Contents that were taken out of the document; they come first.
    """
    # A store that does not know encoding-type does not return it, and its names are literal.
    check_root(root, "ListBucketResult")
    url = root.findtext("EncodingType") == "url"
    batches = [in_order(peeled, partial(_peeled_keys, url=url))] if peeled else []
    rows = [{child.tag: child.text for child in item} for item in root.iterfind("Contents")]
    if rows or not batches:
        tags = {tag for row in rows for tag in row}
        columns = {tag: pa.array([row.get(tag) for row in rows], pa.string()) for tag in tags}
        batches.append(_key_batch(columns, len(rows), url=url))
    batch = joined(batches)
    decode = unquote_plus if url else str
    prefixes = [decode(item.text or "") for item in root.iterfind("CommonPrefixes/Prefix")]
    next_marker = root.findtext("NextContinuationToken") or None
    if next_marker is None:
        _check_last(root, len(batch) + len(prefixes))
    return Page(batch=batch, prefixes=prefixes, next_marker=next_marker)


def _peeled_keys(items: PeeledItems, *, url: bool) -> pa.RecordBatch:
    return _key_batch(items.columns(), len(items), url=url)


def _key_batch(columns: Mapping[str, pa.Array], rows: int, *, url: bool) -> pa.RecordBatch:
    """Make a batch of the texts of Contents, by their tags. Raises ValueError, LookupError."""
    if not rows:
        return inventory_batch({}, 0)
    keys = columns["Key"]
    # A space is encoded as a plus.
    if url and pc.any(pc.match_substring_regex(keys, "[%+]")).as_py():
        keys = pa.array([unquote_plus(key or "") for key in keys.to_pylist()], pa.string())
    etags = columns.get("ETag", pa.nulls(rows, pa.string()))
    inventory = {
        "key": keys,
        "size": columns["Size"],
        "etag": plain_etags(etags),
        "last_modified": columns["LastModified"],
        "tier": columns.get("StorageClass"),
    }
    known = {name: column for name, column in inventory.items() if column is not None}
    return check_names_and_sizes(inventory_batch(known, rows))


def _check_last(root: ElementTree.Element, entries: int) -> None:
    """Raise ValueError unless a page without a marker says itself that it is the last one.

    A proxy or another service may answer with the root element alone. What does not say that it is
    complete, by IsTruncated or by its KeyCount, is not taken for a bucket without objects.
    """
    truncated = root.findtext("IsTruncated")
    if truncated is None and root.findtext("KeyCount") == str(entries):
        return
    if truncated is None or truncated.strip().lower() != "false":
        raise ValueError("a page without a marker does not say that it is the last one")


def _goes_on(root: ElementTree.Element, marker: str) -> bool:
    """Return True if another page follows: as the page says, in any spelling, else by its marker.

    Some lists may do without: what is taken for their end would hide open uploads and versions.
    """
    truncated = root.findtext("IsTruncated")
    if truncated is None:
        # rclone's last page of parts says neither, but for a marker of 0.
        return root.findtext(marker, "") not in ("", "0")
    return truncated.strip().lower() == "true"


def without_folder(page: Page, prefix: str) -> Page:
    """Drop the empty folder that SeaweedFS 4.48 lists as an object if its name is the prefix.

    The ETag in that listing is not the one that a GET returns.
    """
    kept = pc.or_(pc.not_equal(page.batch["key"], prefix), pc.greater(page.batch["size"], 0))
    return replace(page, batch=page.batch.filter(kept))


@malformed_is_unavailable("a list of parts")
def parse_parts(root: ElementTree.Element) -> tuple[list[ListedPart], str | None]:
    """Parse a page of ListParts; return the parts and the marker of the next page."""
    check_root(root, "ListPartsResult")
    parts = [
        ListedPart(
            number=int(item.findtext("PartNumber", "")),
            size=int(item.findtext("Size", "")),
            etag=plain_etag(item.findtext("ETag", "")),
            modified=item.findtext("LastModified", ""),
        )
        for item in root.iterfind("Part")
    ]
    if not _goes_on(root, "NextPartNumberMarker"):
        return parts, None
    return parts, str(int(root.findtext("NextPartNumberMarker", "")))


@malformed_is_unavailable("a list of uploads")
def parse_uploads(root: ElementTree.Element) -> tuple[list[ListedUpload], tuple[str, str] | None]:
    """Parse a page of ListMultipartUploads; return it and the next page's (key, upload id)."""
    check_root(root, "ListMultipartUploadsResult")
    decode = unquote_plus if root.findtext("EncodingType") == "url" else str
    uploads = [
        ListedUpload(
            key=decode(item.findtext("Key", "")),
            upload_id=item.findtext("UploadId", ""),
            started_ms=_milliseconds(item.findtext("Initiated", "")),
        )
        for item in root.iterfind("Upload")
    ]
    if not _goes_on(root, "NextUploadIdMarker"):
        return uploads, None
    return uploads, (
        decode(root.findtext("NextKeyMarker", "")),
        root.findtext("NextUploadIdMarker", ""),
    )


@malformed_is_unavailable("versions")
def parse_versions(
    root: ElementTree.Element,
) -> tuple[list[ListedVersion], tuple[str, str] | None]:
    """Parse a page of ListObjectVersions; return it and the next page's (key, version id)."""
    check_root(root, "ListVersionsResult")
    decode = unquote_plus if root.findtext("EncodingType") == "url" else str
    versions = [
        ListedVersion(
            key=decode(item.findtext("Key", "")),
            version_id=item.findtext("VersionId", ""),
            is_marker=item.tag == "DeleteMarker",
        )
        for item in root
        if item.tag in ("Version", "DeleteMarker")
    ]
    if not _goes_on(root, "NextVersionIdMarker"):
        return versions, None
    return versions, (
        decode(root.findtext("NextKeyMarker", "")),
        root.findtext("NextVersionIdMarker", ""),
    )


@malformed_is_unavailable("a listing of versions")
def count_kept(root: ElementTree.Element, counts: KeptCounts) -> None:
    """Count the older versions and the markers of a page of ListObjectVersions."""
    for item in root:
        if item.tag == "DeleteMarker":
            counts.add(KeptKind.MARKER, 0)
        elif item.tag == "Version" and item.findtext("IsLatest") == "false":
            counts.add(KeptKind.VERSION, int(item.findtext("Size", "0")))


@malformed_is_unavailable("tags")
def parse_tags(root: ElementTree.Element) -> dict[str, str]:
    check_root(root, "Tagging")
    return {
        item.findtext("Key", ""): item.findtext("Value", "") for item in root.iterfind("TagSet/Tag")
    }


def parse_lock(response: Response) -> tuple[bool | None, str | None]:
    """Return whether a bucket can lock objects, and for how long it does so by default.

    None for what the answer does not say: stores that know no locks answer anything.
    """
    troubled = response.status >= 500 and response.status != 501
    if troubled or response.status in (401, 403, 429):
        return None, None
    root = _setting(response, "ObjectLockConfiguration")
    if root is None:
        return False, None
    default = root.find("Rule/DefaultRetention")
    if default is None:
        return root.findtext("ObjectLockEnabled") == "Enabled", None
    times = ((default.findtext(unit), unit.lower()) for unit in ("Days", "Years"))
    length = next((f"{count} {unit}" for count, unit in times if count), "some time")
    return True, f"{default.findtext('Mode') or 'locked'}, {length}"


def parse_versioning(response: Response) -> bool | None:
    """Return whether a bucket keeps versions, or has done so. None: it does not say.

    A bucket whose versioning is suspended leaves markers, too.
    """
    root = _setting(response, "VersioningConfiguration")
    if root is None:
        return None
    return root.findtext("Status") in ("Enabled", "Suspended")


def _setting(response: Response, tag: str) -> ElementTree.Element | None:
    """The document of a bucket's setting; None if the response is no such document."""
    if not 200 <= response.status < 300:
        return None
    try:
        root = parse_root(response.body)
    except ElementTree.ParseError:
        return None
    return root if root.tag == tag else None


def complete_body(parts: Sequence[PartRecord]) -> bytes:
    """Return the body of CompleteMultipartUpload."""
    return "".join(_complete_lines(parts)).encode()


def location_body(region: str) -> bytes:
    """Return the body of CreateBucket in a region that is not the store's first."""
    return (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<LocationConstraint>{escape(region)}</LocationConstraint></CreateBucketConfiguration>"
    ).encode()


def query(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a query of the pairs, encoded and sorted by name as signatures require."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(pairs)
    )


def _complete_lines(parts: Sequence[PartRecord]) -> Iterator[str]:
    yield '<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    for part in parts:
        etag = escape(part.etag)
        yield f"<Part><PartNumber>{part.number}</PartNumber><ETag>&quot;{etag}&quot;</ETag></Part>"
    yield "</CompleteMultipartUpload>"


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)
