"""The contract of a store: two roles and a few verbs. One class for each store plays both roles.

For every verb and every store:

- A store is opened on one container or bucket; names are whole keys in it, exactly as listed.
- A verb makes at most one try. paced.py retries; transfer.py settles unknown outcomes.
- Failures are errors of manifests.errors, chosen in one function for each store. An unknown status
  is permanent. Errors carry the key apart from the message.
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
from noria.workers.http.connection import OnSent
from noria.workers.runtime.buffers import BodyBuffer


class Checksum(StrEnum):
    """The checksum that a target is known to verify when it receives a body."""

    CRC64NVME = "crc64nvme"
    MD5 = "md5"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCapabilities:
    """What a target is known to do. Without a probe, nothing is known."""

    checksum: Checksum = Checksum.NONE
    """Sent by put_object and put_part; the target refuses a body that does not have it."""
    if_absent: bool = False
    """The target honours If-None-Match:* for a PUT and for completing an upload."""
    atomic_complete: bool = False
    """Of uploads of one key that are completed at once with If-None-Match, one alone succeeds.

    If not, the condition holds only for what has stood for a while, so a completion looks first.
    """
    checksum_in_trailer: bool = False
    """The target verifies a checksum that follows a streamed part."""
    if_match: bool = False
    """The target honours If-Match for a PUT and for completing an upload: of PUTs at once that
    name one ETag, one alone succeeds."""
    if_match_delete: bool = False
    """The target honours If-Match for a DELETE, beside a PUT that names the same ETag as well."""

    @property
    def if_match_complete(self) -> bool:
        """Of uploads that are completed at once with one ETag, one alone succeeds."""
        return self.if_match and self.atomic_complete


NOTHING_KNOWN: Final = TargetCapabilities()
CLASS_OF_SOURCE: Final = "source"
"""A target's storage class or tier: the one that Attributes.storage_class states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """What a store states about an object, in the response to a HEAD or a GET."""

    size: int
    """Of the whole object, even if only a range was read."""
    etag: str
    """Without quotes or W/."""
    version_id: str | None = None
    crc64nvme: int | None = None
    """Full-object CRC64NVME as the store states it; None if it states none or a composite."""
    range_crc64nvme: int | None = None
    """CRC64NVME of the range read, as the source states it and as the bytes were found to have it.

    None if the source states none, or if a whole object was read.
    """
    txid: str | None = None
    """The transfer id that put_object or create_upload stored; None for a foreign object."""
    tag_count: int | None = 0
    """The number of tags that the response announces; read_tags fetches them.

    None: it announces none, and yet there may be some.
    """
    announces_tags: bool = False
    """The server is known to announce the tags of every object to whoever may read them."""
    attributes: Attributes = field(default_factory=Attributes)
    """Without tags, and without the metadata that Noria itself adds (txid, mtime)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A write that the target acknowledged."""

    etag: str
    version_id: str | None = None
    crc64nvme: int | None = None
    """Of the whole body or object, as the response states it; None if it states none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A deletion that the target acknowledged."""

    version_id: str | None = None
    """Of the marker of the deletion, in a bucket that keeps versions and says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUpload:
    key: str
    upload_id: str
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedVersion:
    """A version of an object in a bucket that keeps them, or the marker of a deletion."""

    key: str
    version_id: str
    is_marker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page of a listing to fetch."""

    prefix: str
    marker: str | None = None
    deep: bool = False
    """True: all names below `prefix`. False: the names up to the next slash, and the prefixes."""
    after: str | None = None
    """Only what follows this name, in the order of the store. Given with every page, if at all.

    A store may know no such thing, and then it raises a NoriaError or ignores it: callers look.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The response to a PageRequest."""

    batch: pa.RecordBatch
    """Of INVENTORY_SCHEMA."""
    prefixes: Sequence[str] = ()
    next_marker: str | None = None
    answer_bytes: int = 0
    """Of the body that it came in. 0: nothing went over a network."""


class ReadListener(Protocol):
    """Gets the bytes of a read as they come."""

    def update(self, piece: memoryview, crc64nvme: int | None = None, /) -> None:
        """Take the next piece. `crc64nvme` is its checksum, if the store has computed it anyway."""

    def restart(self) -> bool:
        """Forget all pieces of a read that failed; the read then starts from its first byte.

        Return False if that is impossible; the read is then not tried again.
        """


class SourceStore(Protocol):
    """A store that is read: the source, and a target that is read back."""

    @property
    def provider(self) -> str:
        """A name in manifests.plan.providers."""

    @property
    def identity(self) -> str | None:
        """Which container this is, how it is reached and with whose rights; holds no secret.

        Stores with the same identity treat the same request alike. None: not known.
        """

    def open_ahead(self, connections: int) -> None:
        """Open connections for as many requests, which are about to be sent at once.

        Returns at once, and raises nothing.
        """

    def connections(self) -> Mapping[str, int]:
        """How many were opened so far, by TLS version and cipher; PLAIN: without. Files: none."""

    def check_access(self, prefix: str = "") -> None:
        """Check that the container exists and may be listed below `prefix`.

        Raises ConfigurationError or AccessDenied.
        """

    def list_page(self, request: PageRequest) -> Page:
        """Return one page of a listing; listing.list_objects reads all pages.

        Attributes, metadata and tags are filled if the listing states them for free.
        """

    def head(self, key: str) -> ObjectHead | None:
        """Return the head of the object `key`, None if it is missing.

        Raises AccessDenied, Retryable.
        """

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
        """Fill `into` with the bytes [offset, offset + len(into)), pinned to `etag` by If-Match.

        A response without that exact Content-Range, or of another length, is refused (ShortBody).
        An empty `into` reads the head alone. `listener` gets the pieces of `into` in order, while
        they are still in the processor's cache; they count only once this method has returned. The
        listener's errors propagate, unless they are OSErrors.

        Raises SourceChanged (412, or another ETag in the response), SourceMissing (404),
        SourceUnreadable (archived, customer key), DigestRefused (the bytes do not have the checksum
        that the source states), other Retryable, AccessDenied.
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
        """Fill `into` with a whole object of exactly len(into) bytes, by one GET without a Range.

        Otherwise as read_range. The checksum that the source states is the head's `crc64nvme`.
        """

    def read_tags(self, key: str, *, version_id: str | None = None) -> Mapping[str, str]:
        """Return the object's tags.

        Raises AccessDenied or SourceUnreadable if they may not be read or the store has no tags.
        """

    def close(self) -> None:
        """Drop pooled connections."""


DRAFT_PREFIX: Final = ".noria-draft-"
"""Begins the names of what is not finished, at the root of a file target: see remove_drafts()."""


class TargetStore(SourceStore, Protocol):
    """A store that is written to. It uses no more than the target is known to do."""

    @property
    def capabilities(self) -> TargetCapabilities:
        """What writes may rely on; given to the store when it is made."""

    def with_capabilities(self, capabilities: TargetCapabilities) -> TargetStore:
        """Return the same target with other capabilities; both share their connections."""

    def put_object(
        self,
        key: str,
        body: memoryview,
        *,
        attributes: Attributes,
        txid: str,
        crc64nvme: int,
        replaces: str | None = None,
        on_sent: OnSent | None = None,
    ) -> Written:
        """Write a whole object in one request, with its tags.

        `replaces` is the ETag of the object that this is to replace: if another one or none is
        there, nothing is written. A target that is known to honour If-Match decides that itself. At
        any other the store looks right before it writes, and what comes between the two is lost.
        None: no object may be there, if the target is known to honour that.

        `on_sent` gets the bytes of the body as they are handed to the network, here as in put_part;
        also those of a request that fails.

        Raises TargetConflict if an object exists already (412: look with head(), it may be ours),
        or if what `replaces` names is not there,
        DigestRefused, OutcomeUnknown (5xx, reset, timeout after the body was sent), TargetRefused,
        Throttled, AccessDenied. A 507 or a full quota is StoreUnavailable. TagsRefused and
        TagsDenied say that the same without tags may be taken, here as in create_upload and
        complete_upload.
        """

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        """Open a multipart upload whose object will have `txid` and `attributes`; return its id."""

    def put_part(
        self,
        key: str,
        upload_id: str,
        number: int,
        body: memoryview | BodyWriter,
        *,
        size: int,
        crc64nvme: Callable[[], int],
        on_sent: OnSent | None = None,
    ) -> Written:
        """Send one part; sending the same number again replaces it.

        `crc64nvme` is called when the checksum is sent: with the headers if the body is in memory;
        after the body if that is written while it is read, and if the target takes a trailer.
        Written.crc64nvme is the checksum that the target states. The body writer's errors
        propagate, and no part is left then. Raises UploadLost (NoSuchUpload), DigestRefused,
        Retryable, AccessDenied.
        """

    def send_damaged(self, key: str, checksum: Checksum, upload_id: str | None = None) -> None:
        """Send a body with a checksum of other bytes, as an object or as part 1 of an upload.

        For the probe alone. Raises DigestRefused if the target verifies the checksum.
        """

    def answered_as(self, prefix: str = "") -> str | None:
        """Return the name in manifests.plan.providers that the target's responses give away.

        It is asked for no more than a listing below `prefix`.
        """

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """Return part number -> (size, etag) of the parts that the target holds, from all pages.

        If a part was sent twice, the newest counts. None if the upload is gone.
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
        replaces: str | None = None,
    ) -> Written:
        """Make the object from its parts, if absent, and state its size and CRC64NVME.

        `attributes` and `txid` are those of create_upload, because some stores take them only now.
        `replaces` is as in put_object; a target that honours it for all but two completions at once
        is looked at as well.

        Raises TargetConflict (412), UploadLost, DigestRefused, and OutcomeUnknown for everything
        that is neither a clear yes (200 and an ETag) nor a clear no.
        """

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts. Do nothing if the upload is gone already."""

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        """Yield the open multipart uploads below `prefix`, from all pages."""

    def remove_drafts(self) -> int:
        """Remove what writers that are dead left at the root without an object's name or an upload.

        Return how many are gone.

        Only files have such: the services drop a request that was cut off. A listing shows what
        cannot be removed. Raises what a listing raises.
        """

    def list_versions(self, prefix: str) -> Iterator[ListedVersion]:
        """Yield all versions and delete markers below `prefix`, if the target names them."""

    def delete_object(
        self, key: str, version_id: str | None = None, *, etag: str | None = None
    ) -> Deleted | None:
        """Delete an object, or one version of it for good; do nothing if it is missing.

        Return None if the target says that nothing was there; not every target tells.

        If `etag` is given, only an object that has it: of any other nothing is deleted, and
        TargetConflict is raised. A target that is known to honour If-Match here decides that
        itself; at any other the store looks right before, as in put_object. Used only for a probe's
        canaries, for what `noria bench` wrote, for an object of this job that is damaged, and for
        what this migration wrote and its source no longer has.
        """
