"""Structured messages: taken apart as they come, and believed only where every number is right."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from azure.storage.blob._shared import streams
from hypothesis import example, given
from hypothesis import strategies as st

from noria.manifests.errors import DigestRefused, ShortBody, SourceChanged, StoreUnavailable
from noria.workers.digest import crc64nvme
from noria.workers.http.connection import PIECE_BYTES, WAKE_BYTES, OnBytes, ProtocolError
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.azure.structured_message import StructuredBody
from tests.support.fault_proxy.azure_message_shim import FORM, message_of
from tests.support.scripted import Caller, Play, scripted
from tests.workers.http.test_client import Authority

HEADERS = {"x-ms-structured-body": FORM}
ETAG = "0x8DC"


class Arriving:
    """A body that comes in pieces of the given sizes, over and over; a Fill of http.response."""

    def __init__(self, body: bytes, pieces: list[int]) -> None:
        self.body, self.place, self.pieces = body, 0, pieces

    def fill(
        self, view: memoryview, on_bytes: OnBytes | None = None, *, more_bytes: int = 0
    ) -> None:
        filled = 0
        while filled < len(view):
            self.pieces.append(self.pieces.pop(0))
            size = min(self.pieces[-1], len(view) - filled, len(self.body) - self.place)
            if size == 0:
                raise ProtocolError("the body ended early")
            piece = view[filled : filled + size]
            piece[:] = self.body[self.place : self.place + size]
            self.place += size
            filled += size
            if on_bytes is not None:
                on_bytes(piece)
        assert more_bytes == len(self.body) - self.place


class Heard:
    """What a listener was told."""

    def __init__(self) -> None:
        self.body = bytearray()

    def update(self, piece: memoryview, crc: int | None = None) -> None:
        assert crc in (None, crc64nvme(piece))
        self.body += piece

    def restart(self) -> bool:
        raise AssertionError("nothing fails here")


def read(message: bytes, size: int, pieces: list[int] | None = None) -> tuple[bytes, int | None]:
    """What lies in a message, as it was told to on_bytes, and the CRC64 that is stated of it."""
    body, into = StructuredBody("key"), memoryview(bytearray(size))
    heard = Heard()
    assert body.wraps(HEADERS)
    arriving = Arriving(message, list(pieces or [1 << 30]))
    if not body.unwrap(HEADERS, len(message), arriving.fill, into, heard.update):
        assert body.crc64nvme is None
        raise ShortBody("of another length")
    assert arriving.place == len(message)
    assert heard.body == into
    return bytes(into), body.crc64nvme


bodies = st.binary(max_size=300)
segments = st.integers(1, 120)
splits = st.lists(st.integers(1, 60), min_size=1, max_size=12)


@given(bodies, segments, splits)
def test_any_message_however_it_is_split_gives_its_bytes(
    body: bytes, segment_bytes: int, pieces: list[int]
) -> None:
    message = message_of(body, segment_bytes)
    assert read(message, len(body), pieces) == (body, crc64nvme(body))


@given(bodies, segments, splits, st.data())
def test_a_message_with_any_other_byte_is_refused(
    body: bytes, segment_bytes: int, pieces: list[int], data: st.DataObject
) -> None:
    message = bytearray(message_of(body, segment_bytes))
    place = data.draw(st.integers(0, len(message) - 1))
    message[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((DigestRefused, ShortBody)):
        read(bytes(message), len(body), pieces)


@given(bodies, segments, st.data())
def test_a_message_with_any_of_it_missing_repeated_or_moved_is_refused(
    body: bytes, segment_bytes: int, data: st.DataObject
) -> None:
    message = message_of(body, segment_bytes)
    first, end = sorted(data.draw(st.tuples(*[st.integers(0, len(message))] * 2)))
    slice_ = message[first:end]
    for other in (
        message[:first] + message[end:],
        message[:end] + slice_ + message[end:],
        slice_ + message[:first] + message[end:],
    ):
        if other != message:
            with pytest.raises((DigestRefused, ShortBody, ProtocolError)):
                read(other, len(body))


@given(st.binary(max_size=200), st.integers(0, 100))
@example(b"", 0)
@example(struct.pack("<BQHH", 1, 21, 1, 0) + bytes(8), 0)
def test_what_is_no_message_is_refused(garbage: bytes, size: int) -> None:
    with pytest.raises((DigestRefused, ShortBody, ProtocolError)):
        read(garbage, size)


@given(st.binary(min_size=1, max_size=200), segments, st.integers(1, 40))
def test_a_message_of_another_size_is_not_read(body: bytes, segment_bytes: int, more: int) -> None:
    message = message_of(body, segment_bytes)
    for size in (len(body) + more, max(0, len(body) - more)):
        with pytest.raises((DigestRefused, ShortBody, ProtocolError)):
            read(message, size)


def test_segments_in_another_order_are_refused_although_their_checksums_are_right() -> None:
    body = os.urandom(30)
    message = message_of(body, 10)
    pieces = [message[13 + 28 * n : 13 + 28 * (n + 1)] for n in range(3)]
    swapped = message[:13] + pieces[1] + pieces[0] + pieces[2] + message[-8:]
    with pytest.raises(ShortBody, match="segment 2 came in place of 1"):
        read(swapped, len(body))
    renumbered = b"".join(struct.pack("<H", n + 1) + pieces[m][2:] for n, m in enumerate((1, 0, 2)))
    with pytest.raises(DigestRefused):
        read(message[:13] + renumbered + message[-8:], len(body))


@pytest.mark.parametrize("size", [25, 30 - 18, 30])
def test_a_message_that_is_shorter_than_it_says_is_refused_although_its_checksums_are_right(
    size: int,
) -> None:
    body = os.urandom(size)
    message = message_of(body, 10)
    for more in (1, 5, 17, 18):
        length = struct.pack("<Q", len(message) + more)
        padded = message[:1] + length + message[9:] + bytes(more)
        for asked in (size, size + more):
            with pytest.raises(ShortBody):
                read(padded, asked)


@given(bodies, segments)
def test_the_sdks_own_encoder_makes_the_same_messages(body: bytes, segment_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:  # its own CRC64 is in a package of its own
        patch.setattr(streams, "calculate_crc64", lambda data, crc: crc64nvme(data, crc))
        encoder = streams.StructuredMessageEncodeStream(
            io.BytesIO(body),
            len(body),
            streams.StructuredMessageProperties.CRC64,
            segment_size=segment_bytes,
        )
        assert encoder.read() == message_of(body, segment_bytes)


def test_another_form_than_was_asked_for_is_refused() -> None:
    assert not StructuredBody("key").wraps({})
    assert StructuredBody("key").wraps({"x-ms-structured-body": "xsm/1.0;properties=CRC64"})
    for form in ("XSM/2.0; properties=crc64", "XSM/1.0", ""):
        with pytest.raises(ShortBody):
            StructuredBody("key").wraps({"x-ms-structured-body": form})


# -- through a store -------------------------------------------------------------------------------


def serving(body: bytes, *more: str, chunks: int = 0, asked: list[bytes] | None = None) -> Play:
    """Answers every GET with a body that is announced as a range from 0 on, or whole."""

    def play(caller: Caller) -> None:
        while head := caller.request().lower():
            if asked is not None:
                asked.append(head)
            found = re.search(rb"range: bytes=(\d+)-(\d+)", head)
            lines = [f"HTTP/1.1 {206 if found else 200} OK", f'etag: "{ETAG}"', *more]
            if found:
                lines.append(f"content-range: bytes {int(found[1])}-{int(found[2])}/1000000000")
            if chunks:
                pieces = [body[at : at + chunks] for at in range(0, len(body), chunks)]
                framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
                caller.say(*lines, "transfer-encoding: chunked", body=framed + b"0\r\n\r\n")
            else:
                caller.say(*lines, f"content-length: {len(body)}", body=body)

    return play


def structured(size: int) -> tuple[str, str]:
    return f"x-ms-structured-body: {FORM}", f"x-ms-structured-content-length: {size}"


@contextmanager
def opened(
    play: Play, *, authority: Authority | None = None, **changes: Any
) -> Iterator[AzureStore]:
    """The host ends last, when the store's connections are closed."""
    if authority is not None:
        changes["ca_bundle"] = str(authority.path)
    context = authority.context() if authority is not None else None
    with scripted(play, context) as host:
        settings = AzureSettings(account="acc", container="c", endpoint=host.url, sas="sig=x")
        with closing(AzureStore(replace(settings, **changes))) as store:
            yield store


@pytest.mark.parametrize("way", ["plain", "chunks", "tls"])
@pytest.mark.parametrize("size", [1, PIECE_BYTES + 1, 4 * WAKE_BYTES, 9 * WAKE_BYTES + 17])
def test_a_range_comes_out_of_its_message(tmp_path: Path, size: int, way: str) -> None:
    body = os.urandom(size)
    asked: list[bytes] = []
    chunks = 70_000 if way == "chunks" else 0
    play = serving(message_of(body), *structured(size), chunks=chunks, asked=asked)
    authority = Authority(tmp_path, "127.0.0.1") if way == "tls" else None
    with opened(play, authority=authority) as store:
        for _ in range(2):
            into, heard = memoryview(bytearray(size)), Heard()
            head = store.read_range("a", offset=5, into=into, etag=ETAG, listener=heard)
            assert into == body
            assert heard.body == body
            assert (head.range_crc64nvme, head.crc64nvme) == (crc64nvme(body), None)
        head = store.read_object("a", into=into, etag=ETAG)
        assert into == body
        assert (head.range_crc64nvme, head.crc64nvme) == (None, crc64nvme(body))
        assert head.size == size
    assert all(b"\r\nx-ms-structured-body: xsm/1.0; properties=crc64" in head for head in asked)
    assert all(b"\r\nx-ms-version: 2025-01-05" in head for head in asked)


def test_a_body_that_comes_plain_is_taken_plain_and_nothing_is_stated() -> None:
    body = os.urandom(50_000)
    with opened(serving(body)) as store:
        into = memoryview(bytearray(len(body)))
        head = store.read_range("a", offset=0, into=into, etag=ETAG)
        assert into == body
        assert head.range_crc64nvme is None
        assert store.read_object("a", into=into, etag=ETAG).crc64nvme is None


def test_nothing_is_asked_where_that_is_not_wanted() -> None:
    asked: list[bytes] = []
    with opened(serving(b"body", asked=asked), ask_crc64=False) as store:
        store.read_range("a", offset=0, into=memoryview(bytearray(4)), etag=ETAG)
    (head,) = asked
    assert b"structured" not in head
    assert b"\r\nx-ms-version: 2023-11-03" in head


@pytest.mark.parametrize("stated", [True, False])
def test_another_length_in_a_message_is_told_as_that_of_a_plain_body(stated: bool) -> None:
    body = os.urandom(1000)
    headers = structured(len(body))[: 2 if stated else 1]
    with opened(serving(message_of(body), *headers)) as store:
        for size in (999, 1001, 1018):
            into = memoryview(bytearray(size))
            with pytest.raises(ShortBody):
                store.read_range("a", offset=0, into=into, etag=ETAG)
            with pytest.raises(ShortBody):
                store.read_object("a", into=into, etag=ETAG)
        if stated:
            with pytest.raises(SourceChanged, match="the object has 1000 bytes"):
                store.read_object("a", into=memoryview(bytearray(1018)), etag=None)


def test_a_message_that_ends_early_is_no_answer_and_leaves_no_connection() -> None:
    body = os.urandom(5 * WAKE_BYTES)
    message = message_of(body)

    def play(caller: Caller) -> None:
        head = caller.request()
        if head:
            cut = message if caller.number == 2 else message[:-1]
            caller.say(
                "HTTP/1.1 200 OK",
                f'etag: "{ETAG}"',
                *structured(len(body)),
                f"content-length: {len(message)}",
                body=cut,
            )

    with opened(play) as store:
        into = memoryview(bytearray(len(body)))
        with pytest.raises(StoreUnavailable, match="ended 1 bytes early"):
            store.read_object("a", into=into, etag=ETAG)
        assert store.read_object("a", into=into, etag=ETAG).crc64nvme == crc64nvme(body)


def test_an_endpoint_that_knows_no_messages_is_asked_once() -> None:
    """As Azure answers a version or header that it does not know, and as Azurite does."""
    asked: list[bytes] = []
    body = b"<Error><Code>InvalidHeaderValue</Code><HeaderName>x-ms-version</HeaderName></Error>"

    def play(caller: Caller) -> None:
        while head := caller.request().lower():
            asked.append(head)
            if b"structured" in head:
                caller.say("HTTP/1.1 400 No", f"content-length: {len(body)}", body=body)
            else:
                caller.say("HTTP/1.1 200 OK", f'etag: "{ETAG}"', "content-length: 4", body=b"body")

    with opened(play) as store:
        into = memoryview(bytearray(4))
        with pytest.raises(StoreUnavailable):
            store.read_object("a", into=into, etag=ETAG)
        for _ in range(2):
            assert store.read_object("a", into=into, etag=ETAG).crc64nvme is None
    assert [b"structured" in head for head in asked] == [True, False, False]
