"""Azure Blob Storage as source and as target: the contract of protocol.py over raw HTTP.

azure-identity finds the credentials, which is hard to get right. The rest of the SDK is not used: a
GET through it costs six times the CPU. See "Blob service REST API" in the Azure Storage reference
for every verb.

Azure does not have uploads, only uncommitted blocks under the name of a future blob. Noria puts an
upload id into the names of the blocks, so that two uploads never mix. Attributes are set when the
list of blocks is committed. Azure drops uncommitted blocks after a week, or when another write to
that name succeeds.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import pyarrow.compute as pc

from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    Fatal,
    Skippable,
    StoreUnavailable,
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
from noria.workers.http.response import Response, Sink
from noria.workers.http.resting import RestingConnections
from noria.workers.runtime.buffers import BodyBuffer
from noria.workers.stores.advance import Advance, names_of
from noria.workers.stores.azure import xml as azure_xml
from noria.workers.stores.azure.auth import (
    Authorizations,
    Right,
)
from noria.workers.stores.azure.blocks import (
    block_id,
    block_name,
    new_upload_id,
    number_of,
    uploads_of,
)
from noria.workers.stores.azure.errors import RENEWABLE, error_code, refusal, refuses_message
from noria.workers.stores.azure.headers import (
    CRC64_HEADER,
    attribute_headers,
    blob_head,
    decode_crc,
    encode_crc,
    read_head,
    whole_head,
)
from noria.workers.stores.azure.issuing import endpoint_and_issuer
from noria.workers.stores.azure.settings import API_VERSION, AzureSettings
from noria.workers.stores.azure.structured_message import (
    LENGTH_HEADER,
    MESSAGE_FORM,
    MESSAGE_HEADER,
    StructuredBody,
)
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

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

START_API_VERSION: Final = "2026-10-06"
"""Of azure-storage-blob 12.31, which sends `startFrom`; only listings that begin so use it."""
MESSAGE_API_VERSION: Final = "2025-01-05"
"""The first with structured messages; only reads that request one use it."""
COMMIT_SECONDS: Final = 600.0
"""Longest wait for the response to a block list, which may have 50,000 blocks."""

_KEPT: Final = (
    (KeptKind.VERSION, KeptKind.SNAPSHOT, KeptKind.DELETED),
    (KeptKind.SNAPSHOT, KeptKind.DELETED),
    (KeptKind.SNAPSHOT,),
)
"""What a listing is asked to include, until it is not refused; the words are Azure's own."""


class AzureStore:
    """A container. See protocol.py for the contract of every verb."""

    provider = "azure"

    def __init__(
        self,
        settings: AzureSettings,
        credential: TokenCredential | None = None,
        capabilities: TargetCapabilities = NOTHING_KNOWN,
        resting: RestingConnections | None = None,
    ) -> None:
        """`credential` replaces DefaultAzureCredential; `resting` is as HttpClient has it.

        Raises ConfigurationError.
        """
        endpoint, issue = endpoint_and_issuer(settings, credential)
        url = urlsplit(endpoint)
        container = quote(settings.container, safe="$")
        self._base = f"{url.path.rstrip('/')}/{container}"
        self._origin = f"{url.scheme}://{url.netloc}"
        self._settings = settings
        self._authorizations = Authorizations(issue, time.time)
        self._client = HttpClient(
            HttpSettings(
                url=self._origin,
                ca_bundle=settings.ca_bundle,
                proxies=settings.proxies,
                allow_plain_http=settings.allow_plain_http,
                idle_seconds=settings.idle_seconds,
                least_rate=settings.least_rate,
            ),
            resting,
        )
        self._list_tags = True
        self._ask_crc64 = settings.ask_crc64
        self.capabilities = capabilities

    def with_capabilities(self, capabilities: TargetCapabilities) -> AzureStore:
        other = copy.copy(self)
        other.capabilities = capabilities
        return other

    @property
    def identity(self) -> str | None:
        settings = self._settings
        has_key = settings.connection_string or settings.account_key
        rights = ("sas",) if settings.sas else ("key",) if has_key else ()
        return repr(("azure", self._origin, self._base, settings.tier, *rights))

    def open_ahead(self, connections: int) -> None:
        self._client.open_ahead(connections)

    def connections(self) -> Mapping[str, int]:
        return self._client.connections()

    def check_access(self, prefix: str = "") -> None:
        query = [("restype", "container"), ("comp", "list"), ("maxresults", "1")]
        query += [("prefix", prefix)] if prefix else []
        check_clock(self._accept(self._call(Purpose.CONTROL, "GET", query=query)), time.time())

    def list_page(self, request: PageRequest) -> Page:
        if self._list_tags:
            try:
                return self._list(request, "metadata,tags", Right.TAGS)
            except (AccessDenied, ConfigurationError):
                # The right to tags may be missing, or the account has folders and thus no tags.
                # For any other reason, this fails again.
                page = self._list(request, "metadata", Right.BLOBS)
                self._list_tags = False
                return page
        return self._list(request, "metadata", Right.BLOBS)

    def head(self, key: str) -> ObjectHead | None:
        response = self._call(Purpose.READ, "HEAD", key)
        if (
            response.status == 404
            and response.headers.get("x-ms-error-code") != "ContainerNotFound"
        ):
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
            return whole_head(self._read(key, {}, None, etag, version_id).headers)
        headers = {"range": f"bytes={offset}-{offset + len(into) - 1}"}
        body = StructuredBody(key)
        sink = Sink(into=into, on_bytes=on_bytes_of(listener), body_format=body)
        response = self._read(key, headers, sink, etag, version_id)
        size = check_range(response, offset=offset, size=len(into), key=key)
        head = blob_head(response.headers, size=size, crc64nvme=None)
        return replace(head, range_crc64nvme=body.crc64nvme)

    def read_object(
        self,
        key: str,
        *,
        into: memoryview,
        etag: str | None,
        version_id: str | None = None,
        listener: ReadListener | None = None,
    ) -> ObjectHead:
        body = StructuredBody(key)
        sink = Sink(into=into, on_bytes=on_bytes_of(listener), body_format=body)
        response = self._read(key, {}, sink, etag, version_id)
        carried = response.headers.get(LENGTH_HEADER)
        check_whole(response, size=len(into), pinned=etag is not None, key=key, carried=carried)
        return read_head(response.headers, size=len(into), crc64nvme=body.crc64nvme)

    def read_tags(self, key: str, *, version_id: str | None = None) -> Mapping[str, str]:
        query = [("comp", "tags"), *_version(version_id)]
        response = self._call(Purpose.READ, "GET", key, query=query, right=Right.TAGS)
        return azure_xml.parse_tags(self._result(response, Purpose.READ, key))

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
        headers["x-ms-blob-type"] = "BlockBlob"
        response = self._call(
            Purpose.WRITE, "PUT", key, headers=headers, body=body, on_sent=on_sent
        )
        if attributes.tags:
            raise_if_of_tags(response, error_code(response), Purpose.WRITE, key)
        self._accept(response, Purpose.WRITE, key)
        return self._written(
            response, Purpose.WRITE, key, decode_crc(response.headers.get(CRC64_HEADER))
        )

    def create_upload(self, key: str, *, attributes: Attributes, txid: str, size: int) -> str:
        self._object_headers(key, attributes, txid)  # refuse now rather than after the last part
        return new_upload_id()

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
        query = _block_query(upload_id, number)
        headers: Mapping[str, str] = {}
        sent: Body
        if isinstance(body, memoryview):
            sent, headers = body, self._checksum_headers(body, crc64nvme())
        else:
            sent = StreamedBody(body, size)
        response = self._call(
            Purpose.PART, "PUT", key, query=query, headers=headers, body=sent, on_sent=on_sent
        )
        stated = self._accept(response, Purpose.PART, key).headers.get(CRC64_HEADER)
        return Written(etag=block_name(upload_id, number), crc64nvme=decode_crc(stated))

    def send_damaged(self, key: str, checksum: Checksum, upload_id: str | None = None) -> None:
        headers = {"x-ms-blob-type": "BlockBlob"} if upload_id is None else {}
        if checksum is Checksum.CRC64NVME:
            headers[CRC64_HEADER] = encode_crc(0)
        elif checksum is Checksum.MD5:
            headers["content-md5"] = md5_header(b"other bytes")
        query = [] if upload_id is None else _block_query(upload_id, 1)
        response = self._call(
            Purpose.PART, "PUT", key, query=query, headers=headers, body=b"damaged"
        )
        self._accept(response, Purpose.PART, key)

    def answered_as(self, prefix: str = "") -> str | None:
        return self.provider

    def list_parts(self, key: str, upload_id: str) -> dict[int, tuple[int, str]] | None:
        """As in protocol.py; never None, since blocks may be sent under any id at any time."""
        return {
            number: (size, name)
            for name, size in self._uncommitted(key)
            if (number := number_of(name, upload_id)) is not None
        }

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
        block_ids = [block_id(block_name(upload_id, part.number)) for part in parts]
        headers = self._object_headers(key, attributes, txid)
        headers |= condition_headers(self.capabilities, replaces)
        if attributes.content_md5 is not None:
            # Azure computes it for a blob of one request alone.
            headers["x-ms-blob-content-md5"] = attributes.content_md5
        response = self._call(
            Purpose.COMMIT,
            "PUT",
            key,
            query=[("comp", "blocklist")],
            headers=headers,
            body=azure_xml.block_list(block_ids),
        )
        if attributes.tags:
            raise_if_of_tags(response, error_code(response), Purpose.COMMIT, key)
        # The checksum in this response is that of the list, not of the blob.
        return self._written(self._accept(response, Purpose.COMMIT, key), Purpose.COMMIT, key, None)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Do nothing: Azure drops uncommitted blocks by itself."""

    def list_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        marker: str | None = ""
        advance = Advance()
        while marker is not None:
            request = PageRequest(prefix=prefix, marker=marker or None, deep=True)
            page = self._list(request, "uncommittedblobs", Right.BLOBS)
            advance.check(names_of(page), page.next_marker)
            sizes = page.batch.column("size").to_pylist()
            for key, size in zip(page.batch.column("key").to_pylist(), sizes, strict=True):
                if size == 0:
                    yield from uploads_of(key, [name for name, _ in self._uncommitted(key)])
            marker = page.next_marker

    def remove_drafts(self) -> int:
        """Return 0: the service drops a request that was cut off."""
        return 0

    def list_versions(self, prefix: str) -> Iterator[ListedVersion]:
        """As in protocol.py; none is listed, what was written here is known by its id."""
        return iter(())

    def delete_object(
        self, key: str, version_id: str | None = None, *, etag: str | None = None
    ) -> Deleted | None:
        query = [("versionid", version_id)] if version_id else []
        # The service compares it, always; what an emulator does, the probe has found out.
        pinned = {} if etag is None else {"if-match": f'"{etag}"'}
        if etag is not None and not self.capabilities.if_match_delete:
            head = self.head(key)
            if head is None:
                return None
            check_standing(head, etag, key)
        response = self._call(Purpose.CONTROL, "DELETE", key, query=query, headers=pinned)
        if error_code(response) == "BlobNotFound":
            return None
        self._accept(response, Purpose.CONTROL, key)
        return Deleted(version_id=response.headers.get("x-ms-version-id"))

    def service(self, prefix: str = "") -> Service:
        query = [("restype", "container"), ("comp", "list"), ("maxresults", "1")]
        query += [("prefix", prefix)] if prefix else []
        response = self._accept(self._call(Purpose.CONTROL, "GET", query=query))
        authorization = self._authorizations.get(Right.BLOBS)
        return Service(
            endpoint=self._origin,
            credentials=authorization.kind,
            credentials_end=authorization.ends_at,
            credentials_renew=authorization.renews,
            encryption=self._client.encryption,
            clock_seconds=clock_offset(response, time.time()),
        )

    def protection(self) -> Protection:
        """As the container's own properties say it, which take a right to read."""
        response = self._call(Purpose.CONTROL, "HEAD", query=[("restype", "container")])
        if not 200 <= response.status < 300:
            return Protection()
        policy = response.headers.get("x-ms-has-immutability-policy") == "true"
        hold = response.headers.get("x-ms-has-legal-hold") == "true"
        locked = "a policy of the container" if policy else "a legal hold of the container"
        return Protection(locks=policy or hold, retention=locked if policy or hold else None)

    def count_kept(self, prefix: str) -> KeptCounts:
        """As in inspection.py. Accounts with folders keep no versions, and refuse to list them."""
        *wanted, least = _KEPT
        for kinds in wanted:
            with contextlib.suppress(Fatal, Skippable):
                return self._counted(prefix, kinds)
        return self._counted(prefix, least)

    def _counted(self, prefix: str, kinds: Sequence[KeptKind]) -> KeptCounts:
        counts, marker, advance = KeptCounts(kinds), "", Advance()
        while True:
            query = [
                ("restype", "container"),
                ("comp", "list"),
                ("include", ",".join(kinds)),
                ("maxresults", str(self._settings.page_keys)),
                ("prefix", prefix),
                *([("marker", marker)] if marker else []),
            ]
            response = self._call(Purpose.CONTROL, "GET", query=query)
            root = self._result(response, Purpose.CONTROL, None)
            advance.check(azure_xml.count_kept(root, counts), marker or None)
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return counts

    def list_containers(self) -> Iterator[str]:
        above = self._base.rpartition("/")[0]
        marker, advance = None, Advance()
        while True:
            query = [("comp", "list"), ("maxresults", str(self._settings.page_keys))]
            if marker is not None:
                query.append(("marker", marker))
            response = self._call(
                Purpose.CONTROL, "GET", query=query, right=Right.ACCOUNT, path=above or "/"
            )
            root = self._result(response, Purpose.CONTROL, None)
            names, marker = azure_xml.parse_containers(root)
            advance.check(tuple(names) or None, marker)
            yield from names
            if marker is None:
                return

    def make_container(self) -> bool:
        """Make a container without public access."""
        query = [("restype", "container")]
        response = self._call(Purpose.CONTROL, "PUT", query=query, body=b"", right=Right.CONTAINER)
        if error_code(response) == "ContainerAlreadyExists":
            return False
        self._accept(response)
        return True

    def may_write(self, key: str) -> Granted:
        """Set the metadata of a blob that does not exist."""
        return self._may("PUT", key, [("comp", "metadata")])

    def may_delete(self, key: str) -> Granted:
        return self._may("DELETE", key, [])

    def _may(self, method: str, key: str, query: Sequence[tuple[str, str]]) -> Granted:
        """Ask to change a blob that does not exist; who may not is told so first."""
        if self._authorizations.get(Right.BLOBS).of_key:
            return Granted.YES
        body = b"" if method == "PUT" else None
        status = self._call(Purpose.CONTROL, method, key, query=query, body=body).status
        return {404: Granted.YES, 403: Granted.NO, 401: Granted.NO}.get(status, Granted.UNCLEAR)

    def _uncommitted(self, key: str) -> list[tuple[str, int]]:
        query = [("comp", "blocklist"), ("blocklisttype", "uncommitted")]
        response = self._call(Purpose.PART, "GET", key, query=query)
        if response.headers.get("x-ms-error-code") == "BlobNotFound":
            return []
        return azure_xml.parse_uncommitted(self._result(response, Purpose.PART, key))

    def _list(self, request: PageRequest, include: str, right: Right) -> Page:
        query = [
            ("restype", "container"),
            ("comp", "list"),
            ("include", include),
            ("maxresults", str(self._settings.page_keys)),
            ("prefix", request.prefix),
        ]
        if not request.deep:
            query.append(("delimiter", "/"))
        if request.marker is not None:
            query.append(("marker", request.marker))
        headers = {}
        if request.after is not None:
            query.append(("startFrom", request.after))
            headers["x-ms-version"] = START_API_VERSION
        response = self._call(Purpose.CONTROL, "GET", query=query, headers=headers, right=right)
        blobs, rest = peel(response.body, "Blob")
        root = self._result(replace(response, body=rest), Purpose.CONTROL, None)
        page = replace(azure_xml.parse_blobs(root, blobs), answer_bytes=len(response.body))
        if request.after is None:
            return page
        # The service begins with this very name.
        others = pc.not_equal(page.batch["key"], request.after)
        return replace(page, batch=page.batch.filter(others))

    def _read(
        self,
        key: str,
        headers: Mapping[str, str],
        sink: Sink | None,
        etag: str | None,
        version_id: str | None,
    ) -> Response:
        """Send a GET into the sink, or a HEAD if there is none; check that it is the pinned blob.

        A GET requests a structured message.
        """
        sent = dict(headers)
        if etag is not None:
            sent["if-match"] = f'"{etag}"'
        requests = sink is not None and self._ask_crc64
        if requests:
            sent |= {"x-ms-version": MESSAGE_API_VERSION, MESSAGE_HEADER: MESSAGE_FORM}
        response = self._call(
            Purpose.READ,
            "HEAD" if sink is None else "GET",
            key,
            query=_version(version_id),
            headers=sent,
            sink=sink,
        )
        if requests and refuses_message(response):
            self._ask_crc64 = False
            raise StoreUnavailable(
                "the source refuses to send a structured message, and none will be requested from "
                "now on: try again",
                key=key,
            )
        check_pinned(self._accept(response, Purpose.READ, key), etag, key)
        return response

    def _object_headers(self, key: str, attributes: Attributes, txid: str) -> dict[str, str]:
        headers = attribute_headers(attributes, txid, key=key)
        tier = self._settings.tier
        if tier == CLASS_OF_SOURCE:
            tier = attributes.storage_class
        if tier is not None:
            headers["x-ms-access-tier"] = tier
        return headers

    def _checksum_headers(self, body: memoryview, crc64nvme: int) -> dict[str, str]:
        if self.capabilities.checksum is Checksum.CRC64NVME:
            return {CRC64_HEADER: encode_crc(crc64nvme)}
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
        right: Right = Right.BLOBS,
        on_sent: OnSent | None = None,
        path: str | None = None,
    ) -> Response:
        """Send one request for a key, or for the container; return the response of any status.

        `path` is for a request for neither.
        """
        authorization = self._authorizations.get(right)
        if path is None:
            path = self._base if key is None else f"{self._base}/{quote(key, safe='/')}"
        words = [f"{name}={quote(value, safe='')}" for name, value in query]
        if authorization.query:
            words.append(authorization.query)
        sent = {"x-ms-version": API_VERSION, **(headers or {})}
        if authorization.authorization is not None:
            sent["authorization"] = authorization.authorization
        request = Request(
            method=method,
            target=f"{path}?{'&'.join(words)}" if words else path,
            headers=sent,
            body=body,
            wait_seconds=COMMIT_SECONDS if purpose is Purpose.COMMIT else None,
            on_sent=on_sent,
        )
        try:
            response = self._client.exchange(request, sink)
        except TransportError as error:
            raise error_without_response(error, purpose, key) from error
        if response.headers.get("x-ms-error-code") in RENEWABLE and self._authorizations.drop(
            right, authorization
        ):
            raise StoreUnavailable("the credential has expired and is renewed: try again", key=key)
        return response

    def _accept(
        self, response: Response, purpose: Purpose = Purpose.CONTROL, key: str | None = None
    ) -> Response:
        """Return the response if it is a success; raise the error for a refusal otherwise."""
        if 200 <= response.status < 300:
            return response
        raise refusal(response, purpose, key)

    def _result(self, response: Response, purpose: Purpose, key: str | None) -> ElementTree.Element:
        """Return the XML document of a successful response."""
        try:
            return azure_xml.parse_root(self._accept(response, purpose, key).body)
        except ElementTree.ParseError:
            raise refusal(response, purpose, key) from None

    def _written(
        self, response: Response, purpose: Purpose, key: str, crc64nvme: int | None
    ) -> Written:
        etag = plain_etag(response.headers.get("etag", ""))
        if not etag:
            raise refusal(response, purpose, key)
        version_id = response.headers.get("x-ms-version-id")
        return Written(etag=etag, version_id=version_id, crc64nvme=crc64nvme)


def _version(version_id: str | None) -> list[tuple[str, str]]:
    return [("versionid", version_id)] if version_id else []


def _block_query(upload_id: str, number: int) -> list[tuple[str, str]]:
    return [("comp", "block"), ("blockid", block_id(block_name(upload_id, number)))]
