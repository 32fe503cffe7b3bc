"""What a store must do. Two roles, few verbs; one class for each store plays both.

The contract, for every verb and every store:

- A store is opened on one container or bucket; names are whole keys in it, exactly as listed.
- A verb makes at most one try. paced.py retries; transfer.py settles unknown outcomes.
- Failures are errors of manifests.errors, chosen in one function of each store's file; a status
  that is not known is permanent. Errors carry the key apart from the message.
- A verb may be called from many threads and fibers at once. Connections are pooled and kept.
- No verb changes a source: only GET, HEAD and LIST are sent in the source role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import pyarrow as pa

from noria.manifests.model import Attributes, PartRecord
from noria.workers.http.client import BodyWriter
from noria.workers.runtime.buffers import BodyBuffer


class Checksum(StrEnum):
    """What a target is known to verify while it takes a body in."""

    CRC64NVME = "crc64nvme"
    MD5 = "md5"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCapabilities:
    """What a target is known to do. Without a probe, nothing."""

    checksum: Checksum = Checksum.NONE
    """What put_object and put_part send along, and the target refuses if it is wrong."""
    if_absent: bool = False
    """If-None-Match:* is honoured for a PUT and for a completed upload."""
    checksum_in_trailer: bool = False
    """A streamed part may end with its checksum."""


NOTHING_KNOWN: Final = TargetCapabilities()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """What a store says of an object, from HEAD or from the answer to a GET."""

    size: int
    """Of the whole object, also where a range was read."""
    etag: str
    """Without quotes or W/."""
    version_id: str | None = None
    crc64nvme: int | None = None
    """Full-object CRC64NVME as the store states it; None where it states none or a composite."""
    range_crc64nvme: int | None = None
    """Of the bytes that a read_range brought, as the source states it and they were found to have
    it; None where it states none, or a whole object was read."""
    txid: str | None = None
    """The transfer id that put_object or create_upload left there; None for a foreign object."""
    tag_count: int = 0
    """How many tags the answer announces; read_tags fetches them."""
    attributes: Attributes = field(default_factory=Attributes)
    """Without tags. Without the marks that Noria itself adds (txid, mtime)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A write that the target acknowledged."""

    etag: str
    version_id: str | None = None
    crc64nvme: int | None = None
    """Full-object value as the answer states it, else None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUpload:
    key: str
    upload_id: str
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """One page of a listing to fetch."""

    prefix: str
    marker: str | None = None
    deep: bool = False
    """True: all names below prefix. False: those up to the next slash, and the prefixes there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What came for a PageRequest."""

    batch: pa.RecordBatch
    """Of INVENTORY_SCHEMA."""
    prefixes: Sequence[str] = ()
    next_marker: str | None = None


class ReadListener(Protocol):
    """Hears the bytes of a read as they come."""

    def update(self, piece: memoryview, crc64nvme: int | None = None, /) -> None:
        """The next piece. `crc64nvme` is that of the piece, if it had to be taken on the way."""

    def restart(self) -> bool:
        """The read has failed: forget what came of it, all of it comes again. False where that
        cannot be, and the read is not to be tried again."""


class SourceStore(Protocol):
    """Where bytes come from; also how a target is read back."""

    @property
    def provider(self) -> str:
        """A name in manifests.plan.providers."""

    def check_access(self) -> None:
        """See that the container exists and may be listed. Raises ConfigurationError or
        AccessDenied."""

    def list_page(self, request: PageRequest) -> Page:
        """One page of a listing; listing.list_objects puts all of them together.

        Attributes, metadata and tags are filled if the listing states them for free.
        """

    def head(self, key: str) -> ObjectHead | None:
        """What stands under key, or None. Raises AccessDenied, Retryable."""

    def read_range(
        self,
        key: str,
        *,
        offset: int,
        into: BodyBuffer,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        """Fill `into` with the bytes [offset, offset + len(into)), pinned to etag by If-Match.

        Answers without that exact Content-Range or of another length are refused (ShortBody). An
        empty `into` reads the head alone. `listener` hears the pieces of `into` in order, while
        the processor still has them at hand; what it heard counts only once this returns. What it
        raises passes through, unless it is an OSError.

        Raises SourceChanged (412, or another ETag in the answer), SourceMissing (404),
        SourceUnreadable (archived, customer key), DigestRefused (the bytes are not those that the
        source states), other Retryable, AccessDenied.
        """

    def read_object(
        self,
        key: str,
        *,
        into: memoryview,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        """As read_range for a whole object of exactly len(into) bytes, in one GET without a Range.
        What the source states of them is the head's `crc64nvme`."""

    def read_tags(self, key: str, *, version_id: str | None = None) -> Mapping[str, str]:
        """The object's tags."""

    def close(self) -> None:
        """Drop pooled connections."""


class TargetStore(SourceStore, Protocol):
    """Where bytes go, by means of what the target is known to do."""

    @property
    def capabilities(self) -> TargetCapabilities:
        """What writes make use of: given to the store when it was made."""

    def with_capabilities(self, capabilities: TargetCapabilities) -> TargetStore:
        """The same target with other capabilities; both share their connections."""

    def put_object(
        self, key: str, body: memoryview, *, attributes: Attributes, txid: str, crc64nvme: int
    ) -> Written:
        """Write a whole object in one request, with its tags.

        Raises TargetConflict where something stands there already (412: look with head(), it may be
        ours), DigestRefused, OutcomeUnknown (5xx, reset, timeout after the body was sent),
        TargetRefused, Throttled, AccessDenied. A 507 or quota answer is StoreUnavailable.
        """

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        """Open a multipart upload that leaves txid and attributes on the object; returns its id."""

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: memoryview | BodyWriter,
        *,
        size: int,
        crc64nvme: Callable[[], int],
    ) -> Written:
        """Send one part; the same number again replaces it. Written.crc64nvme is the target's word.

        `crc64nvme` is asked for when it goes out: that of a body at hand with its head, that of a
        body that is poured, and so sent while it is read, behind it, where the store takes one.
        What the body raises passes through, and no part is left. Raises UploadLost (NoSuchUpload),
        DigestRefused, Retryable, AccessDenied.
        """

    def send_damaged(self, key: str, checksum: Checksum, upload_id: str | None = None) -> None:
        """Send a body under a checksum of other bytes, as an object or as part 1 of an upload.

        For the probe alone. Raises DigestRefused where the target verifies what it takes in.
        """

    def answered_as(self) -> str | None:
        """A name in manifests.providers, where the target's answers give it away."""

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """Part number -> (size, etag) of what the target holds; None where the upload is gone.

        All pages. Where a part was sent twice, the newest.
        """

    def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartRecord],
        *,
        size: int,
        crc64nvme: int,
        attributes: Attributes,
        txid: str,
    ) -> Written:
        """Make the object out of its parts, if absent, stating size and full-object CRC64NVME.

        `attributes` and `txid` are those of create_upload: some stores take them only now.

        Raises TargetConflict (412), UploadLost, DigestRefused, and OutcomeUnknown for everything
        that is neither a clear yes (200 and an ETag) nor a clear no.
        """

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. An upload that is gone already is fine."""

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        """Open multipart uploads below prefix, all pages."""

    def delete_object(self, key: str) -> None:
        """Remove a canary of the probe, or what a run of `noria bench` wrote. Used for nothing
        else. Missing is fine."""
