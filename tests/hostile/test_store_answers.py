"""What stores answer, of any bytes: read as it was meant, or no answer at all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.manifests.errors import NoriaError, StoreUnavailable
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.http.connection import Connection, ProtocolError
from noria.workers.http.response import HEAD_BYTES_MAX, Response, Sink, read_body, read_head
from noria.workers.runtime.greenlets import Readiness
from noria.workers.stores.azure import headers as azure_headers
from noria.workers.stores.azure import xml as azure_xml
from noria.workers.stores.azure.errors import refusal as azure_refusal
from noria.workers.stores.listing import list_objects
from noria.workers.stores.peeling import peel
from noria.workers.stores.protocol import Page, PageRequest, SourceStore
from noria.workers.stores.responses import (
    RETRY_AFTER_MAX_SECONDS,
    Purpose,
    check_clock,
    check_range,
    modified_seconds,
    retry_after_seconds,
)
from noria.workers.stores.s3 import headers as s3_headers
from noria.workers.stores.s3 import xml as s3_xml
from noria.workers.stores.s3.errors import refusal as s3_refusal
from tests.support.fuzzing import ODD_TEXTS, SECRET, damaged, examples, refused

IDLE_SECONDS = 5.0


# -- HTTP/1.1 --------------------------------------------------------------------------------------


def exchange(data: bytes, *, into: int | None = None, method: str = "GET") -> Response:
    """What comes off a connection on which a host says `data` and ends it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        ours.setblocking(False)
        connection = Connection(ours, Readiness(ours), IDLE_SECONDS)
        status, headers = read_head(connection)
        sink = None if into is None else Sink(into=memoryview(bytearray(into)))
        return read_body(connection, method, status, headers, sink)[0]


def answered(data: bytes, **options: Any) -> Response | None:
    try:
        return exchange(data, **options)
    except ProtocolError:
        return None


HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-a: 1\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nx-trailer: 1\r\n\r\n"
)


def test_what_is_whole_is_read() -> None:
    for data in (HELLO, CHUNKED):
        assert exchange(data).body == b"hello"
        assert exchange(data, into=5).filled


def test_a_header_in_latin_1_changes_no_other() -> None:
    head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-amz-meta-a: ü\r\n".encode()
    headers = exchange(head + b"content-disposition: inline; filename=\xfc\r\n\r\n").headers
    assert headers["x-amz-meta-a"] == "ü"
    assert headers["content-disposition"] == "inline; filename=ü"


@examples(150)
@given(st.sampled_from([HELLO, CHUNKED]).flatmap(damaged), st.none() | st.integers(0, 9))
def test_damaged_answers(data: bytes, into: int | None) -> None:
    response = answered(data, into=into)
    if response is not None:
        assert 200 <= response.status <= 999
        assert response.filled <= (into is not None)


@examples(150)
@given(st.binary(max_size=200))
def test_bytes_behind_a_status_line(data: bytes) -> None:
    answered(b"HTTP/1.1 200 OK\r\n" + data)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: \xc2\xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 5000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n\x1f\x8b\r\n",
    ],
    ids=lambda head: ascii(head[:60]),
)
def test_heads_that_are_no_answer(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        exchange(head)


def test_trailers_without_end() -> None:
    class Endless(Connection):
        said = 0

        def receive(self) -> None:
            self.pending += b"x: y\r\n" * 1000
            self.said += 1

    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Endless(ours, Readiness(ours), IDLE_SECONDS)
        connection.pending = b"0\r\n"
        with pytest.raises(ProtocolError, match="trailers"):
            read_body(connection, "GET", 200, {"transfer-encoding": "chunked"}, None)
        assert connection.said * 6000 < 3 * HEAD_BYTES_MAX


HEADER_NAMES = st.sampled_from(
    [
        "content-length",
        "content-range",
        "etag",
        "last-modified",
        "date",
        "retry-after",
        "x-amz-tagging-count",
        "x-amz-checksum-crc64nvme",
        "x-amz-meta-mtime",
        "x-amz-meta-noriatxid",
        "x-amz-meta-a",
        "x-ms-tag-count",
        "x-ms-content-crc64",
        "x-ms-meta-mtime",
    ]
)
HEADER_VALUES = ODD_TEXTS | st.sampled_from(
    [
        "-1",
        "9" * 400,
        "9" * 5000,
        "1e400",
        "Thu, 01 Foo 2026 00:00:00 GMT",
        "Thu, 99 Jan 2026 99:99:99 GMT",
        "Thu, 01 Jan 99999 00:00:00 +9999",
        "bytes 0-4/5",
        "bytes 0-4/*",
        "bytes " + "9" * 5000 + "-1/2",
        "AAAAAAAAAAA=",
        "A",
        "=?UTF-8?B?////?=",
        "=?x?q?=ff?=",
    ]
)


@examples(150)
@given(st.dictionaries(HEADER_NAMES, HEADER_VALUES))
@example({"retry-after": "9" * 400})
@example({"last-modified": "Thu, 01 Foo 2026 00:00:00 GMT"})
@example({"date": "never"})
@example({"x-amz-tagging-count": "many"})
def test_headers_of_any_value(headers: dict[str, str]) -> None:
    for head in (s3_headers.whole_head, azure_headers.whole_head):
        assert isinstance(refused(partial(head, headers)), StoreUnavailable | None)
    pause = retry_after_seconds(headers)
    assert pause is None or 0 <= pause <= RETRY_AFTER_MAX_SECONDS
    modified_seconds(headers)
    response = Response(status=206, headers=headers, filled=True)
    refused(lambda: check_clock(response, 0.0))
    refused(lambda: check_range(response, offset=0, size=5, key=SECRET))


@examples(100)
@given(
    st.integers(100, 999),
    st.sampled_from(Purpose),
    st.binary(max_size=40) | st.just(b"<Code>\xff</Code>"),
    st.dictionaries(HEADER_NAMES | st.just("x-ms-error-code"), HEADER_VALUES),
)
def test_refusals_of_any_content(
    status: int, purpose: Purpose, body: bytes, headers: dict[str, str]
) -> None:
    response = Response(status=status, headers=headers, body=body)
    for refusal in (s3_refusal, azure_refusal):
        error = refusal(response, purpose, SECRET)
        assert isinstance(error, NoriaError)
        assert error.message.isprintable()
        assert SECRET not in error.message


# -- XML -------------------------------------------------------------------------------------------

S3_KEYS = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
    b"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    b"<NextContinuationToken>t1</NextContinuationToken><Contents><Key>a%2Bb+c</Key>"
    b"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
    b"<Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>"
    b"<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>"
)
S3_PARTS = (
    b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2"
    b"</NextPartNumberMarker><Part><PartNumber>2</PartNumber><Size>8</Size><ETag>e</ETag>"
    b"<LastModified>x</LastModified></Part></ListPartsResult>"
)
S3_UPLOADS = (
    b"<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
    b"<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker><Upload>"
    b"<Key>k</Key><UploadId>u</UploadId><Initiated>2026-01-01T00:00:00Z</Initiated></Upload>"
    b"</ListMultipartUploadsResult>"
)
AZURE_BLOBS = (
    b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs><Blob>'
    b'<Name Encoded="true">a%2Fb</Name><Properties><Content-Length>5</Content-Length>'
    b"<Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x1</Etag>"
    b"<Content-MD5>AAAAAAAAAAAAAAAAAAAAAA==</Content-MD5><Content-CRC64>AAAAAAAAAAA="
    b"</Content-CRC64></Properties><Metadata><a>b</a></Metadata><Tags><TagSet><Tag><Key>k</Key>"
    b"<Value>v</Value></Tag></TagSet></Tags></Blob><BlobPrefix><Name>p/</Name></BlobPrefix>"
    b"</Blobs><NextMarker>m</NextMarker></EnumerationResults>"
)
AZURE_BLOCKS = (
    b"<BlockList><UncommittedBlocks><Block><Name>YWI=</Name><Size>8</Size></Block>"
    b"</UncommittedBlocks></BlockList>"
)
S3_TAGS = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"
AZURE_TAGS = b"<Tags><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tags>"
Parse = Callable[[ElementTree.Element], Any]
READERS: list[tuple[bytes, Callable[[bytes], ElementTree.Element], Parse]] = [
    (S3_KEYS, s3_xml.parse_root, s3_xml.parse_keys),
    (S3_PARTS, s3_xml.parse_root, s3_xml.parse_parts),
    (S3_UPLOADS, s3_xml.parse_root, s3_xml.parse_uploads),
    (AZURE_BLOBS, azure_xml.parse_root, azure_xml.parse_blobs),
    (AZURE_BLOCKS, azure_xml.parse_root, azure_xml.parse_uncommitted),
    (S3_TAGS, s3_xml.parse_root, s3_xml.parse_tags),
    (AZURE_TAGS, azure_xml.parse_root, azure_xml.parse_tags),
]


def peeled_root(parse_root: Callable[[bytes], Any], tag: str) -> Callable[[bytes], Any]:
    """As a store reads a page: items first, and the parser what is left."""

    def parse(body: bytes) -> Any:
        items, rest = peel(body, tag)
        return parse_root(rest), items

    return parse


PEELERS: list[tuple[bytes, Any, Any]] = [
    (S3_KEYS, peeled_root(s3_xml.parse_root, "Contents"), lambda read: s3_xml.parse_keys(*read)),
    (AZURE_BLOBS, peeled_root(azure_xml.parse_root, "Blob"), lambda r: azure_xml.parse_blobs(*r)),
]


def check_page(found: Any) -> None:
    if isinstance(found, Page):
        assert found.batch.schema == INVENTORY_SCHEMA
        found.batch.validate(full=True)
        assert all(found.batch["key"].to_pylist())
        assert all(size >= 0 for size in found.batch["size"].to_pylist())


def read_document(
    body: bytes, parse_root: Callable[[bytes], ElementTree.Element], parse: Parse
) -> Any:
    """What it says, or None where it is refused."""
    try:
        root = parse_root(body)
    except ElementTree.ParseError:
        return None
    found: list[Any] = []
    error = refused(lambda: found.append(parse(root)))
    assert isinstance(error, StoreUnavailable | None)
    return found[0] if found else None


def test_documents_that_are_whole_are_read() -> None:
    keys, parts, uploads, blobs, blocks, *tags = (read_document(*reader) for reader in READERS)
    assert keys.batch["key"].to_pylist() == ["a+b c"]
    assert (keys.next_marker, keys.prefixes) == ("t1", ["p/"])
    assert ([part.number for part in parts[0]], parts[1]) == ([2], "2")
    assert ([upload.key for upload in uploads[0]], uploads[1]) == (["k"], ("k", "u"))
    assert (blobs.batch["key"].to_pylist(), blobs.next_marker) == (["a/b"], "m")
    assert blocks == [("ab", 8)]
    assert tags == [{"k": "v"}] * 2


@examples(150)
@given(st.sampled_from(READERS + PEELERS), st.data())
def test_documents_that_are_damaged(reader: tuple[bytes, Any, Any], data: st.DataObject) -> None:
    whole, parse_root, parse = reader
    check_page(read_document(data.draw(damaged(whole)), parse_root, parse))


PAGES: dict[str, tuple[Callable[[ElementTree.Element], tuple[Any, Any]], str]] = {
    "ListPartsResult": (s3_xml.parse_parts, "<NextPartNumberMarker>7</NextPartNumberMarker>"),
    "ListMultipartUploadsResult": (
        s3_xml.parse_uploads,
        "<NextKeyMarker>k</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>",
    ),
    "ListVersionsResult": (
        s3_xml.parse_versions,
        "<NextKeyMarker>k</NextKeyMarker><NextVersionIdMarker>v</NextVersionIdMarker>",
    ),
}


@pytest.mark.parametrize("root", PAGES)
@pytest.mark.parametrize("said", [None, "true", "True", "false", "False"])
def test_a_page_that_goes_on_is_not_the_last(root: str, said: str | None) -> None:
    """Whether it says so in another spelling, or by its marker alone."""
    read, marker = PAGES[root]
    truncated = "" if said is None else f"<IsTruncated>{said}</IsTruncated>"
    page = f"<{root}>{truncated}{marker}</{root}>"
    ends = read(s3_xml.parse_root(page.encode()))[1] is None
    assert ends == (said in ("false", "False"))


@pytest.mark.parametrize("said", ["", "<KeyCount>2</KeyCount>", "<IsTruncated/>"])
def test_a_page_that_does_not_say_it_is_the_last_is_no_empty_bucket(said: str) -> None:
    page = f"<ListBucketResult><EncodingType>url</EncodingType>{said}</ListBucketResult>"
    assert read_document(page.encode(), s3_xml.parse_root, s3_xml.parse_keys) is None
    blobs = b"<EnumerationResults><NextMarker/></EnumerationResults>"
    assert read_document(blobs, azure_xml.parse_root, azure_xml.parse_blobs) is None


@pytest.mark.parametrize("said", ["<KeyCount>0</KeyCount>", "<IsTruncated>false</IsTruncated>"])
def test_a_page_that_says_it_is_the_last_may_be_empty(said: str) -> None:
    page = f"<ListBucketResult>{said}</ListBucketResult>"
    found = read_document(page.encode(), s3_xml.parse_root, s3_xml.parse_keys)
    assert (len(found.batch), found.next_marker) == (0, None)


def texts_of(whole: bytes) -> list[bytes]:
    """Values between tags."""
    pieces = whole.replace(b">", b"<").split(b"<")
    return sorted({piece for piece in pieces[0::2] if piece.strip() and b"xml" not in piece})


@examples(150)
@given(st.sampled_from(READERS + PEELERS), st.data())
def test_documents_that_say_something_else(
    reader: tuple[bytes, Any, Any], data: st.DataObject
) -> None:
    whole, parse_root, parse = reader
    old = data.draw(st.sampled_from(texts_of(whole)))
    values = st.sampled_from(
        [b"", b"-1", b"9" * 30, b"9" * 5000, b"1_0", b"0001-01-01T00:00:00+14:00", b"A", b"%ff"]
    )
    new = data.draw(values | st.text("01-:TZ%aA=+ ", max_size=6).map(str.encode))
    check_page(read_document(whole.replace(old, new), parse_root, parse))


BOMB = (
    b'<!DOCTYPE x [<!ENTITY a "'
    + b"x" * 1000
    + b'">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 30) for n in range(6))
    + b"]><ListBucketResult><Contents><Key>&g;</Key></Contents></ListBucketResult>"
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"<a>",
        b"<html><body>Please log in</body></html>",
        b'<?xml version="1.0" encoding="shift_jis"?><a/>',
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b'<?xml version="1.0" encoding="utf-16"?><a/>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><ListBucketResult>&a;</ListBucketResult>',
        b"<a>" * 20_000,
        BOMB,
    ],
    ids=lambda body: ascii(body[:50]),
)
def test_documents_that_list_nothing_are_no_listing(body: bytes) -> None:
    for _, parse_root, parse in READERS + PEELERS:
        assert read_document(body, parse_root, parse) is None


@pytest.mark.parametrize(
    "body",
    [
        S3_KEYS.replace(b"<NextContinuationToken>t1</NextContinuationToken>", b""),
        S3_KEYS.replace(b"<Size>5</Size>", b""),
        S3_KEYS.replace(b"<Size>5</Size>", b"<Size>-5</Size>"),
        S3_KEYS.replace(b"a%2Bb+c", b""),
        S3_KEYS.replace(b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', b"xmlns='urn:x'"),
    ],
    ids=lambda body: ascii(body[-60:]),
)
def test_a_listing_that_would_lose_objects_is_refused(body: bytes) -> None:
    assert read_document(body, s3_xml.parse_root, s3_xml.parse_keys) is None
    assert read_document(body, *PEELERS[0][1:]) is None


def test_a_blob_without_a_size_is_refused() -> None:
    body = AZURE_BLOBS.replace(b"<Content-Length>5</Content-Length>", b"")
    assert read_document(body, azure_xml.parse_root, azure_xml.parse_blobs) is None
    assert read_document(body, *PEELERS[1][1:]) is None


def test_a_listing_that_goes_round_in_circles_ends() -> None:
    page = s3_xml.parse_keys(s3_xml.parse_root(S3_KEYS.replace(b"p/", b"")))
    asked: list[PageRequest] = []

    def fetch(request: PageRequest) -> Page:
        asked.append(request)
        return Page(batch=page.batch, next_marker="the same")

    with pytest.raises(StoreUnavailable, match="same page marker"):
        list(list_objects(cast(SourceStore, SimpleNamespace(list_page=fetch)), "", streams=1))
    assert len(asked) == 2
