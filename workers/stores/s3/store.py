"""S3 and compatible stores as source and as target: the contract of protocol.py over raw HTTP.

botocore is used for credentials alone: a request through boto3 costs about 1,300 us of CPU, and it
retries, redirects and computes checksums by itself. See the Amazon S3 API Reference for every verb.
"""

from __future__ import annotations

import copy
import ipaddress
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

from noria.manifests.errors import (
    ConfigurationError,
    NoriaError,
    SourceUnreadable,
    TargetConflict,
)
from noria.manifests.model import Attributes, PartRecord
from noria.workers.http.client import (
    Body,
    BodyWriter,
    HttpClient,
    HttpSettings,
    Request,
    StreamedBody,
    TransportError,
)
from noria.workers.http.connection import OnSent
from noria.workers.http.proxies import NO_PROXIES, Proxies
from noria.workers.http.response import Response, Sink
from noria.workers.http.resting import RestingConnections
from noria.workers.runtime.buffers import BodyBuffer
from noria.workers.stores.advance import Advance
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.inspection import Granted, KeptCounts, KeptKind, Protection, Service
from noria.workers.stores.peeling import peel
from noria.workers.stores.protocol import (
    CLASS_OF_SOURCE,
    NOTHING_KNOWN,
    Checksum,
    Deleted,
    ListedUpload,
    ListedVersion,
    ObjectHead,
    Page,
    PageRequest,
    ReadListener,
    TargetCapabilities,
    Written,
)
from noria.workers.stores.responses import (
    Purpose,
    check_clock,
    check_pinned,
    check_range,
    check_standing,
    check_whole,
    clock_offset,
    condition_headers,
    error_without_response,
    md5_header,
    on_bytes_of,
    plain_etag,
    raise_if_of_tags,
)
from noria.workers.stores.s3 import xml as s3_xml
from noria.workers.stores.s3.aws_chunked import PayloadCount, encoded_bytes, with_trailer
from noria.workers.stores.s3.credentials import (
    DEFAULT_REGION,
    credentials_end,
    find_keys,
    find_region,
)
from noria.workers.stores.s3.errors import refusal
from noria.workers.stores.s3.headers import (
    CRC64NVME_HEADER,
    STATE_CRC,
    attribute_headers,
    customer_key_headers,
    encode_crc,
    full_object_crc,
    object_head,
    provider_of_answer,
    stated_crc,
    whole_head,
)
from noria.workers.stores.s3.sigv4 import UNSIGNED_PAYLOAD, UNSIGNED_TRAILER, Signer

if TYPE_CHECKING:
    from botocore.credentials import Credentials

COMPLETE_SECONDS: Final = 600.0
"""CompleteMultipartUpload may take several minutes to process (Amazon S3 API Reference)."""
_COMPLETED: Final = ("CompleteMultipartUploadResult", "CompleteMultipartUploadResponse")
"""Roots of its answer, in Amazon's spelling and in moto's."""
_WANTS_REGION: Final = ("IllegalLocationConstraintException", "InvalidLocationConstraint")
"""Codes of a CreateBucket that should name the region, or another one."""


NO_PART: Final = PartRecord(number=1, size=0, etag="0" * 32, crc64nvme=0, chunks=b"")
"""Of an upload that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """One bucket and how to reach it."""

    bucket: str
    endpoint_url: str | None = None
    """None: Amazon's endpoint of the region."""
    region: str | None = None
    """None: that of the environment or the profile, else us-east-1."""
    provider: str = "s3"
    """A name in manifests.plan.providers."""
    profile: str | None = None
    """Section of the shared credentials file. None: botocore's whole chain of credentials."""
    path_style: bool | None = None
    """True: host/bucket/key. False: bucket.host/key. None: True if endpoint_url is given."""
    storage_class: str | None = None
    """Of written objects. None: the bucket's default. CLASS_OF_SOURCE: as the attributes say."""
    encryption: str | None = None
    """AES256, aws:kms or aws:kms:dsse, for written objects. None: the bucket's default."""
    kms_key_id: str | None = None
    """Of encryption by aws:kms. None: the account's own."""
    acl: str | None = None
    """Canned access list of written objects. None: the bucket's rule."""
    request_payer: bool = False
    """Say with each request that we pay for it, as buckets of Requester Pays ask."""
    customer_key: bytes | None = field(default=None, repr=False)
    """32 bytes of SSE-C key, sent with every request for an object. None: no SSE-C."""
    page_keys: int = 1000
    """Most entries in one page of any list."""
    anonymous: bool = False
    """Sign nothing: for buckets that anybody may read."""
    ca_bundle: str | None = None
    proxies: Proxies = NO_PROXIES
    allow_plain_http: bool = False
    idle_seconds: float = 60.0
    least_rate: float = 1024.0
    """See HttpSettings."""


class S3Store:
    """A bucket. See protocol.py for the contract of every verb."""

    def __init__(
        self,
        settings: S3Settings,
        credentials: Credentials | None = None,
        capabilities: TargetCapabilities = NOTHING_KNOWN,
        resting: RestingConnections | None = None,
    ) -> None:
        """`credentials` replaces botocore's chain; `resting` is as HttpClient has it.

        Raises ConfigurationError if there are no credentials.
        """
        region = settings.region or find_region(settings.profile, os.environ)
        keys = None if settings.anonymous else find_keys(settings.profile, credentials)
        url, self._base = _address(settings, region)
        self._settings = settings
        self._keys = keys
        self._place = (url, self._base, region)
        self._client = HttpClient(
            HttpSettings(
                url=url,
                ca_bundle=settings.ca_bundle,
                proxies=settings.proxies,
                allow_plain_http=settings.allow_plain_http,
                idle_seconds=settings.idle_seconds,
                least_rate=settings.least_rate,
            ),
            resting,
        )
        self._signer = Signer(self._client.host, region, keys)
        self._key_headers = customer_key_headers(settings.customer_key)
        self._wishes = dict(STATE_CRC)
        self._write_headers = write_headers(settings)
        self.provider = settings.provider
        self.capabilities = capabilities

    def with_capabilities(self, capabilities: TargetCapabilities) -> S3Store:
        other = copy.copy(self)
        other.capabilities = capabilities
        return other

    @property
    def identity(self) -> str | None:
        settings = self._settings
        written = (
            *(settings.provider, settings.storage_class, settings.customer_key is not None),
            *(settings.encryption, settings.kms_key_id, settings.acl, settings.request_payer),
        )
        access_key = None if self._keys is None else self._keys().access_key
        return repr(("s3", *self._place, *written, access_key))

    def open_ahead(self, connections: int) -> None:
        self._client.open_ahead(connections)

    def connections(self) -> Mapping[str, int]:
        return self._client.connections()

    def check_access(self, prefix: str = "") -> None:
        response = self._list_one(prefix)
        try:
            self._accept(response, Purpose.CONTROL, None)
        except NoriaError as error:
            if not self._guesses_style(response.status):
                raise
            raise type(error)(
                f"{error.message}; if this store takes BUCKET.HOST alone, set path_style = false"
            ) from error
        check_clock(response, time.time())

    def _guesses_style(self, status: int) -> bool:
        """Return True if a refusal may be about a bucket in the path, which nobody asked for."""
        url = self._settings.endpoint_url
        by_default = self._settings.path_style is None and url is not None and not _is_address(url)
        return by_default and status in (400, 403, 404)

    def list_page(self, request: PageRequest) -> Page:
        query = [
            ("list-type", "2"),
            ("encoding-type", "url"),
            ("max-keys", str(self._settings.page_keys)),
            ("prefix", request.prefix),
        ]
        if not request.deep:
            query.append(("delimiter", "/"))
        if request.marker is not None:
            query.append(("continuation-token", request.marker))
        elif request.after is not None:
            query.append(("start-after", request.after))
        response = self._call(Purpose.CONTROL, "GET", query=query)
        keys, rest = peel(response.body, "Contents")
        root = self._result(replace(response, body=rest), Purpose.CONTROL, None)
        page = replace(s3_xml.parse_keys(root, keys), answer_bytes=len(response.body))
        if provider_of_answer(response.headers) == "seaweedfs":
            return s3_xml.without_folder(page, request.prefix)
        return page

    def head(self, key: str) -> ObjectHead | None:
        response = self._call_whole("HEAD", key, self._key_headers)
        if response.status == 404:
            return None
        return whole_head(self._accept(response, Purpose.READ, key).headers)

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
        if not into:
            response = self._read(key, None, None, etag, version_id)
            return whole_head(response.headers)
        span = f"bytes={offset}-{offset + len(into) - 1}"
        sink = Sink(into=into, on_bytes=on_bytes_of(listener))
        response = self._read(key, span, sink, etag, version_id)
        size = check_range(response, offset=offset, size=len(into), key=key)
        return object_head(response.headers, size=size, crc64nvme=None)

    def read_object(
        self,
        key: str,
        *,
        into: memoryview,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        sink = Sink(into=into, on_bytes=on_bytes_of(listener))
        response = self._read(key, None, sink, etag, version_id)
        check_whole(response, size=len(into), pinned=etag is not None, key=key)
        return whole_head(response.headers)

    def read_tags(self, key: str, *, version_id: str | None = None) -> Mapping[str, str]:
        query = [("tagging", ""), *([("versionId", version_id)] if version_id else [])]
        response = self._call(Purpose.READ, "GET", key, query=query)
        if response.status == 404 and s3_xml.error_code(response.body).startswith("NoSuchTagSet"):
            return {}
        try:
            root = s3_xml.parse_root(self._accept(response, Purpose.READ, key).body)
        except ElementTree.ParseError:
            root = None
        if root is None or root.tag != "Tagging":
            # Servers that do not know tags answer with the object itself.
            raise SourceUnreadable("the store shows no tags", key=key)
        return s3_xml.parse_tags(root)

    def close(self) -> None:
        self._client.close()

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
        if replaces is not None and not self.capabilities.if_match:
            check_standing(self.head(key), replaces, key)
        headers = self._object_headers(key, attributes, txid)
        headers |= self._checksum_headers(body, crc64nvme)
        headers |= condition_headers(self.capabilities, replaces)
        response = self._call(
            Purpose.WRITE, "PUT", key, headers=headers, body=body, on_sent=on_sent
        )
        if attributes.tags:
            raise_if_of_tags(response, s3_xml.error_code(response.body), Purpose.WRITE, key)
        _raise_if_missing(response, replaces, key)
        return _written(self._accept(response, Purpose.WRITE, key), Purpose.WRITE, key)

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        headers = self._object_headers(key, attributes, txid)
        if self.capabilities.checksum is Checksum.CRC64NVME:
            headers["x-amz-checksum-algorithm"] = "CRC64NVME"
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
        response = self._call(
            Purpose.OPEN, "POST", key, query=[("uploads", "")], headers=headers, body=b""
        )
        if attributes.tags:
            raise_if_of_tags(response, s3_xml.error_code(response.body), Purpose.OPEN, key)
        upload_id = self._result(response, Purpose.OPEN, key).findtext("UploadId")
        if not upload_id:
            raise refusal(response, Purpose.OPEN, key)
        return upload_id

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
        query = [("partNumber", str(number)), ("uploadId", upload_id)]
        headers = dict(self._key_headers)
        sent: Body
        if isinstance(body, memoryview):
            sent = body
            headers |= self._checksum_headers(body, crc64nvme())
        elif (
            self.capabilities.checksum_in_trailer
            and self.capabilities.checksum is Checksum.CRC64NVME
        ):
            headers["content-encoding"] = "aws-chunked"
            headers["x-amz-decoded-content-length"] = str(size)
            headers["x-amz-trailer"] = CRC64NVME_HEADER
            payload = PayloadCount(on_sent)
            on_sent = payload.note_sent
            sent = StreamedBody(
                with_trailer(body, size, CRC64NVME_HEADER, crc64nvme, payload),
                encoded_bytes(size, CRC64NVME_HEADER),
            )
        else:
            sent = StreamedBody(body, size)
        response = self._call(
            Purpose.PART, "PUT", key, query=query, headers=headers, body=sent, on_sent=on_sent
        )
        return _written(self._accept(response, Purpose.PART, key), Purpose.PART, key)

    def send_damaged(self, key: str, checksum: Checksum, upload_id: str | None = None) -> None:
        headers = dict(self._key_headers)
        if checksum is Checksum.CRC64NVME:
            headers[CRC64NVME_HEADER] = encode_crc(0)
        elif checksum is Checksum.MD5:
            headers["content-md5"] = md5_header(b"other bytes")
        query = [] if upload_id is None else [("partNumber", "1"), ("uploadId", upload_id)]
        response = self._call(
            Purpose.PART, "PUT", key, query=query, headers=headers, body=b"damaged"
        )
        self._accept(response, Purpose.PART, key)

    def answered_as(self, prefix: str = "") -> str | None:
        return provider_of_answer(self._list_one(prefix).headers)

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        newest: dict[int, s3_xml.ListedPart] = {}
        marker, advance = None, Advance()
        while True:
            query = [("uploadId", upload_id), ("max-parts", str(self._settings.page_keys))]
            if marker is not None:
                query.append(("part-number-marker", marker))
            response = self._call(Purpose.PART, "GET", key, query=query, headers=self._key_headers)
            if response.status == 404 and s3_xml.error_code(response.body) != "NoSuchBucket":
                return None
            parts, marker = s3_xml.parse_parts(self._result(response, Purpose.PART, key))
            advance.check(tuple(part.number for part in parts) or None, marker)
            for part in parts:
                known = newest.get(part.number)
                if known is None or part.modified >= known.modified:
                    newest[part.number] = part
            if marker is None:
                return {number: (part.size, part.etag) for number, part in newest.items()}

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
        if replaces is not None and not self.capabilities.if_match_complete:
            check_standing(self.head(key), replaces, key)
        headers = {"content-type": "application/xml", **self._key_headers}
        if self.capabilities.checksum is Checksum.CRC64NVME:
            headers[CRC64NVME_HEADER] = encode_crc(crc64nvme)
            headers["x-amz-checksum-type"] = "FULL_OBJECT"
            headers["x-amz-mp-object-size"] = str(size)
        headers |= condition_headers(self.capabilities, replaces)
        response = self._call(
            Purpose.COMMIT,
            "POST",
            key,
            query=[("uploadId", upload_id)],
            headers=headers,
            body=s3_xml.complete_body(parts),
        )
        _raise_if_missing(response, replaces, key)
        # S3 sends the 200 before it has done the work; only the body says how that ended.
        result = self._result(response, Purpose.COMMIT, key)
        etag = plain_etag(result.findtext("ETag") or "")
        if result.tag not in _COMPLETED or not etag:
            raise refusal(response, Purpose.COMMIT, key)
        return Written(
            etag=etag,
            version_id=response.headers.get("x-amz-version-id"),
            crc64nvme=full_object_crc(
                result.findtext("ChecksumCRC64NVME"), result.findtext("ChecksumType")
            ),
        )

    def abort_upload(self, key: str, upload_id: str) -> None:
        response = self._call(Purpose.CONTROL, "DELETE", key, query=[("uploadId", upload_id)])
        if response.status != 404:
            self._accept(response, Purpose.CONTROL, key)

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        markers, advance = None, Advance()
        while True:
            query = [
                ("uploads", ""),
                ("encoding-type", "url"),
                ("max-uploads", str(self._settings.page_keys)),
                ("prefix", prefix),
            ]
            if markers is not None:
                query += [("key-marker", markers[0]), ("upload-id-marker", markers[1])]
            response = self._call(Purpose.CONTROL, "GET", query=query)
            uploads, markers = s3_xml.parse_uploads(self._result(response, Purpose.CONTROL, None))
            advance.check(tuple(upload.upload_id for upload in uploads) or None, markers)
            yield from uploads
            if markers is None:
                return

    def list_containers(self) -> Iterator[str]:
        marker, advance = None, Advance()
        while True:
            query = [("max-buckets", str(self._settings.page_keys))]
            if marker is not None:
                query.append(("continuation-token", marker))
            response = self._call(Purpose.CONTROL, "GET", query=query, path=self._service_path())
            names, marker = s3_xml.parse_buckets(self._result(response, Purpose.CONTROL, None))
            advance.check(tuple(names) or None, marker)
            yield from names
            if marker is None:
                return

    def _service_path(self) -> str:
        """The path above all buckets. Raises ConfigurationError if a host's name has the bucket."""
        above, slash, _ = self._base.rpartition("/")
        if not slash or not self._base.endswith(f"/{quote(self._settings.bucket)}"):
            raise ConfigurationError("buckets are listed with path_style = true alone")
        return above or "/"

    def remove_drafts(self) -> int:
        """Return 0: the service drops a request that was cut off."""
        return 0

    def list_versions(self, prefix: str) -> Iterator[ListedVersion]:
        for page in self._version_pages(prefix):
            yield from s3_xml.parse_versions(page)[0]

    def count_kept(self, prefix: str) -> KeptCounts:
        counts = KeptCounts([KeptKind.VERSION, KeptKind.MARKER])
        for page in self._version_pages(prefix):
            s3_xml.count_kept(page, counts)
        return counts

    def _version_pages(self, prefix: str) -> Iterator[ElementTree.Element]:
        markers, advance = None, Advance()
        while True:
            query = [
                ("versions", ""),
                ("encoding-type", "url"),
                ("max-keys", str(self._settings.page_keys)),
                ("prefix", prefix),
            ]
            if markers is not None:
                query += [("key-marker", markers[0]), ("version-id-marker", markers[1])]
            response = self._call(Purpose.CONTROL, "GET", query=query)
            page = self._result(response, Purpose.CONTROL, None)
            found, markers = s3_xml.parse_versions(page)
            advance.check(tuple((one.key, one.version_id) for one in found) or None, markers)
            yield page
            if markers is None:
                return

    def delete_object(
        self, key: str, version_id: str | None = None, *, etag: str | None = None
    ) -> Deleted | None:
        query = [("versionId", version_id)] if version_id else []
        pinned: dict[str, str] = {}
        if etag is not None and self.capabilities.if_match_delete:
            pinned["if-match"] = f'"{etag}"'
        elif etag is not None:
            head = self.head(key)
            if head is None:
                return None
            check_standing(head, etag, key)
        response = self._call(Purpose.CONTROL, "DELETE", key, query=query, headers=pinned)
        if response.status == 404 and s3_xml.error_code(response.body) != "NoSuchBucket":
            return None
        self._accept(response, Purpose.CONTROL, key)
        return Deleted(version_id=response.headers.get("x-amz-version-id"))

    def service(self, prefix: str = "") -> Service:
        response = self._accept(self._list_one(prefix), Purpose.CONTROL, None)
        keys = None if self._keys is None else self._keys()
        kind = "access key" if keys is not None and keys.token is None else "temporary access key"
        url, _, region = self._place
        return Service(
            endpoint=url,
            credentials="none" if keys is None else kind,
            credentials_end=credentials_end(os.environ) if keys and keys.token else None,
            credentials_renew=keys is not None and keys.renewed,
            encryption=self._client.encryption,
            clock_seconds=clock_offset(response, time.time()),
            region=region,
            region_stated=response.headers.get("x-amz-bucket-region"),
        )

    def protection(self) -> Protection:
        versioning = BackgroundCall(partial(self._asked, "versioning"), "versioning")
        locks, retention = s3_xml.parse_lock(self._asked("object-lock"))
        versioned = s3_xml.parse_versioning(versioning.result())
        return Protection(versioned=versioned, locks=locks, retention=retention)

    def make_container(self) -> bool:
        """Make the bucket in the region that requests are signed for.

        Amazon wants that region in the body unless it is the first one. Elsewhere an endpoint has
        a region of its own, and most want none; one that does says so.
        """
        region = self._place[2]
        named = self.provider == "aws" and region != DEFAULT_REGION
        for body in (s3_xml.location_body(region) if named else b"", s3_xml.location_body(region)):
            response = self._call(Purpose.CONTROL, "PUT", body=body)
            code = s3_xml.error_code(response.body)
            if code not in _WANTS_REGION:
                break
        if code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            return False  # stores differ in which of the two they say of one's own
        self._accept(response, Purpose.CONTROL, None)
        return True

    def may_write(self, key: str) -> Granted:
        """Complete an upload that does not exist: whatever a store makes of it has no bytes.

        A part would not do: s3rver 3.7 keeps one for an upload that it has never heard of.
        """
        response = self._call(
            Purpose.CONTROL,
            "POST",
            key,
            query=[("uploadId", "0" * 32)],
            headers={"content-type": "application/xml", **self._key_headers},
            body=s3_xml.complete_body([NO_PART]),
        )
        if response.status in (401, 403):
            return Granted.NO
        known = s3_xml.error_code(response.body) in ("NoSuchUpload", "InvalidPart")
        return Granted.YES if known else Granted.UNCLEAR

    def may_delete(self, key: str) -> Granted:
        """Delete nothing, unless that would leave a marker."""
        if s3_xml.parse_versioning(self._asked("versioning")) is not False:
            return Granted.UNCLEAR
        response = self._call(Purpose.CONTROL, "DELETE", key)
        if response.status in (401, 403):
            return Granted.NO
        gone = response.status == 404 or 200 <= response.status < 300
        return Granted.YES if gone else Granted.UNCLEAR

    def _asked(self, setting: str) -> Response:
        """What the store answers when it is asked for a setting of the bucket."""
        return self._call(Purpose.CONTROL, "GET", query=[(setting, "")])

    def _list_one(self, prefix: str) -> Response:
        """Ask for one name below `prefix`: the least that a listing can be."""
        query = [("list-type", "2"), ("max-keys", "1"), *([("prefix", prefix)] if prefix else [])]
        return self._call(Purpose.CONTROL, "GET", query=query)

    def _read(
        self,
        key: str,
        span: str | None,
        sink: Sink | None,
        etag: str | None,
        version_id: str | None,
    ) -> Response:
        """Send a GET into the sink, or a HEAD without one; check that it is the pinned object.

        `span` is the Range to ask for; None: the whole object.
        """
        sent = dict(self._key_headers)
        if etag is not None:
            sent["if-match"] = f'"{etag}"'
        query = [("versionId", version_id)] if version_id else []
        method = "HEAD" if sink is None else "GET"
        if span is None:
            response = self._call_whole(method, key, sent, query=query, sink=sink)
        else:
            sent["range"] = span
            response = self._call(Purpose.READ, method, key, query=query, headers=sent, sink=sink)
        check_pinned(self._accept(response, Purpose.READ, key), etag, key)
        return response

    def _call_whole(
        self,
        method: str,
        key: str,
        headers: Mapping[str, str],
        *,
        query: Sequence[tuple[str, str]] = (),
        sink: Sink | None = None,
    ) -> Response:
        """Send a GET or HEAD of a whole object, and wish for its checksum.

        Some stores refuse a header that they do not know, and the answer to a HEAD cannot name it.
        So what was refused with the wish is sent without; if that helps, nobody wishes any more.
        """
        if self._wishes:
            sent = {**headers, **self._wishes}
            response = self._call(Purpose.READ, method, key, query=query, headers=sent, sink=sink)
            if response.status not in (400, 501) or (
                response.body and not any(name.encode() in response.body for name in STATE_CRC)
            ):
                return response
        response = self._call(Purpose.READ, method, key, query=query, headers=headers, sink=sink)
        if response.status < 300 or response.status == 404:
            self._wishes.clear()
        return response

    def _object_headers(self, key: str, attributes: Attributes, txid: str) -> dict[str, str]:
        headers = {
            **self._key_headers,
            **self._write_headers,
            **attribute_headers(attributes, txid, key=key),
        }
        storage_class = self._settings.storage_class
        if storage_class == CLASS_OF_SOURCE:
            storage_class = attributes.storage_class
        if storage_class is not None:
            headers["x-amz-storage-class"] = storage_class
        return headers

    def _checksum_headers(self, body: memoryview, crc64nvme: int) -> dict[str, str]:
        if self.capabilities.checksum is Checksum.CRC64NVME:
            return {CRC64NVME_HEADER: encode_crc(crc64nvme)}
        if self.capabilities.checksum is Checksum.MD5:
            return {"content-md5": md5_header(body)}
        return {}

    def _call(
        self,
        purpose: Purpose,
        method: str,
        key: str | None = None,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        sink: Sink | None = None,
        on_sent: OnSent | None = None,
        path: str | None = None,
    ) -> Response:
        """Send one request for a key, or for the bucket; return the response of any status.

        `path` is for a request for neither.
        """
        if path is None:
            path = self._base if key is None else f"{self._base}/{quote(key, safe='/')}"
        text = s3_xml.query(query) if query else ""
        headers = headers or {}
        if self._settings.request_payer:
            headers = {**headers, "x-amz-request-payer": "requester"}
        payload = UNSIGNED_TRAILER if "x-amz-trailer" in headers else UNSIGNED_PAYLOAD
        request = Request(
            method=method,
            target=f"{path or '/'}?{text}" if text else path or "/",
            headers=self._signer.sign(method, path or "/", text, headers, payload),
            body=body,
            wait_seconds=COMPLETE_SECONDS if purpose is Purpose.COMMIT else None,
            on_sent=on_sent,
        )
        try:
            return self._client.exchange(request, sink)
        except TransportError as error:
            raise error_without_response(error, purpose, key) from error

    def _accept(self, response: Response, purpose: Purpose, key: str | None) -> Response:
        """Return the response if it is a success; raise the error for a refusal otherwise."""
        if 200 <= response.status < 300:
            return response
        raise refusal(response, purpose, key)

    def _result(self, response: Response, purpose: Purpose, key: str | None) -> ElementTree.Element:
        """Return the XML document of a successful response. An <Error> after a 200 is a refusal."""
        try:
            root = s3_xml.parse_root(self._accept(response, purpose, key).body)
        except ElementTree.ParseError:
            raise refusal(response, purpose, key) from None
        if root.tag == "Error":
            raise refusal(response, purpose, key)
        return root


def _address(settings: S3Settings, region: str) -> tuple[str, str]:
    """Return the URL of the host, and the path before a key."""
    endpoint = urlsplit(settings.endpoint_url or f"https://s3.{region}.amazonaws.com")
    path_style = settings.path_style
    if path_style is None:
        # A dot in the name would not match the host's wildcard certificate.
        path_style = settings.endpoint_url is not None or "." in settings.bucket
    elif not path_style and _is_address(endpoint.geturl()):
        raise ConfigurationError(
            "path_style = false needs an endpoint with a name: no bucket can stand before an "
            "address"
        )
    base = endpoint.path.rstrip("/")
    if path_style:
        return f"{endpoint.scheme}://{endpoint.netloc}", f"{base}/{quote(settings.bucket)}"
    return f"{endpoint.scheme}://{settings.bucket}.{endpoint.netloc}", base


def _is_address(url: str) -> bool:
    """Return True if the URL's host is an IP address."""
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def write_headers(settings: S3Settings) -> dict[str, str]:
    """Return the headers of every new object that the settings ask for."""
    headers = {
        "x-amz-server-side-encryption": settings.encryption,
        "x-amz-server-side-encryption-aws-kms-key-id": settings.kms_key_id,
        "x-amz-acl": settings.acl,
    }
    return {name: value for name, value in headers.items() if value is not None}


def _raise_if_missing(response: Response, replaces: str | None, key: str) -> None:
    """Raise TargetConflict if a write was refused since what it is to replace is not there."""
    missing = response.status == 404 and s3_xml.error_code(response.body) == "NoSuchKey"
    if replaces is not None and missing:
        raise TargetConflict("nothing is at the target under this name", key=key)


def _written(response: Response, purpose: Purpose, key: str) -> Written:
    etag = plain_etag(response.headers.get("etag", ""))
    if not etag:
        raise refusal(response, purpose, key)
    return Written(
        etag=etag,
        version_id=response.headers.get("x-amz-version-id"),
        crc64nvme=stated_crc(response.headers),
    )
