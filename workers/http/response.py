"""The reading half of HTTP/1.1 (RFC 9112): answers off a connection, bodies into given buffers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from noria.workers.http.connection import Connection, OnBytes, ProtocolError
from noria.workers.runtime.buffers import BodyBuffer, views

HEAD_BYTES_MAX: Final = 256 * 1024
"""Longest head of an answer. 8 KiB of metadata fits many times."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest answer that goes into no given buffer. A page of 5,000 blobs with metadata fits."""
INTERIM_MAX: Final = 16
"""Interim answers before the final one. Stores send one, 100 Continue, or a proxy some 102."""

_STATUS = re.compile(r"[1-9][0-9]{2}(?: |$)")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; the values of repeated ones joined by a comma."""
    body: bytes = b""
    """Empty where the body went into the caller's buffer."""
    filled: bool = False
    """True where the body went into the caller's buffer: both are of the same length."""


class Fill(Protocol):
    """As Connection.fill: the next bytes of a body, exactly as many as there is room for."""

    def __call__(
        self, view: memoryview, on_bytes: OnBytes | None = None, *, more_bytes: int = 0
    ) -> None: ...


def fill_room(
    fill: Fill,
    room: BodyBuffer,
    start: int,
    end: int,
    on_bytes: OnBytes | None = None,
    *,
    more_bytes: int = 0,
) -> None:
    """As `fill`, for the bytes [start, end) of what goes into the room."""
    for view in views(room, start, end):
        start += len(view)
        fill(view, on_bytes, more_bytes=end - start + more_bytes)


class Wrapping(Protocol):
    """A form of body that a host may choose: what was asked for, and more around it."""

    def wraps(self, headers: Mapping[str, str]) -> bool:
        """Whether the answer with these headers has that form."""

    def unwrap(
        self,
        headers: Mapping[str, str],
        body_bytes: int,
        fill: Fill,
        into: BodyBuffer,
        on_bytes: OnBytes | None,
    ) -> bool:
        """Read all of a body of so many bytes, and fill `into` with what was asked for. False, and
        nothing is read, where the lengths do not agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Where the body of a 200 or 206 goes, if the lengths agree."""

    into: BodyBuffer
    on_bytes: OnBytes | None = None
    """Gets the pieces of `into` as they come, in order."""
    wrapping: Wrapping | None = None
    """The form that the body is taken out of, if it comes in it."""


def read_head(connection: Connection) -> tuple[int, dict[str, str]]:
    """Status and headers of the final answer, interim ones (1xx) passed over."""
    for _ in range(INTERIM_MAX + 1):
        status, headers = read_one_head(connection)
        if status >= 200:
            return status, headers
    raise ProtocolError("interim answers, and no final one")


def read_one_head(connection: Connection) -> tuple[int, dict[str, str]]:
    while (end := connection.pending.find(b"\r\n\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise ProtocolError("the head of the answer does not end")
        connection.receive()
    lines = _decode(connection.take(end + 4)[:end]).split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not _STATUS.match(rest):
        raise ProtocolError("the answer is not HTTP/1.1")
    headers: dict[str, str] = {"connection": "close"} if version == "HTTP/1.0" else {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        name = name.lower()
        value = value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(rest[:3]), headers


def _decode(head: bytes) -> str:
    """UTF-8 where it is that, as stores send metadata back; else one character a byte (RFC 9110,
    5.5)."""
    try:
        return head.decode()
    except UnicodeDecodeError:
        return head.decode("latin-1")


def read_body(
    connection: Connection,
    method: str,
    status: int,
    headers: dict[str, str],
    sink: Sink | None = None,
) -> tuple[Response, bool]:
    """The answer, and whether its connection may serve another exchange."""
    reusable = "close" not in headers.get("connection", "").lower()
    if method == "HEAD" or status in (204, 304):
        return Response(status=status, headers=headers), reusable
    if status not in (200, 206):
        sink = None
    if sink is not None and sink.wrapping is not None and sink.wrapping.wraps(headers):
        if not _read_wrapped(connection, headers, sink, sink.wrapping):
            return Response(status=status, headers=headers), False
        return Response(status=status, headers=headers, filled=True), reusable
    if "transfer-encoding" in headers:
        body = _read_chunks(connection)
    elif "content-length" in headers:
        length = _length(headers)
        if length > ANSWER_BYTES_MAX if sink is None else length != len(sink.into):
            return Response(status=status, headers=headers), False
        if sink is not None:
            fill_room(connection.fill, sink.into, 0, length, sink.on_bytes)
            return Response(status=status, headers=headers, filled=True), reusable
        buffer = bytearray(length)
        connection.fill(memoryview(buffer))
        body = bytes(buffer)
    else:
        body, reusable = _read_to_end(connection), False
    if sink is None:
        return Response(status=status, headers=headers, body=body), reusable
    if len(body) != len(sink.into):
        return Response(status=status, headers=headers), reusable
    # Stores state a length with what they serve; the copy is for a proxy that dropped it.
    fill_room(_Held(body).fill, sink.into, 0, len(body), sink.on_bytes)
    return Response(status=status, headers=headers, filled=True), reusable


def _length(headers: Mapping[str, str]) -> int:
    if not _LENGTH.fullmatch(headers["content-length"]):
        raise ProtocolError("Content-Length is not a number")
    return int(headers["content-length"])


def _read_wrapped(
    connection: Connection,
    headers: Mapping[str, str],
    sink: Sink,
    wrapping: Wrapping,
) -> bool:
    """False where the lengths do not agree. A form with more around it comes with its length, or
    in chunks, which are held before they are unwrapped."""
    if "transfer-encoding" in headers:
        held = _Held(_read_chunks(connection, len(sink.into) + ANSWER_BYTES_MAX))
        return wrapping.unwrap(headers, len(held.body), held.fill, sink.into, sink.on_bytes)
    if "content-length" not in headers:
        return False
    fill = connection.fill
    return wrapping.unwrap(headers, _length(headers), fill, sink.into, sink.on_bytes)


class _Held:
    """A body that has come already, as Fill."""

    def __init__(self, body: bytes) -> None:
        self.body = memoryview(body)
        self._place = 0

    def fill(
        self, view: memoryview, on_bytes: OnBytes | None = None, *, more_bytes: int = 0
    ) -> None:
        end = self._place + len(view)
        if end > len(self.body):
            raise ProtocolError(f"the body ended {end - len(self.body)} bytes early")
        view[:] = self.body[self._place : end]
        self._place = end
        if on_bytes is not None:
            on_bytes(view)


def _read_chunks(connection: Connection, most_bytes: int = ANSWER_BYTES_MAX) -> bytes:
    """A chunked body (RFC 9112, 7.1); its trailers are passed over."""
    body = bytearray()
    while True:
        size_text, _, _ = _read_line(connection).partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise ProtocolError("a chunk without a size") from None
        if size == 0:
            _pass_trailers(connection)
            return bytes(body)
        if size < 0 or len(body) + size > most_bytes:
            raise ProtocolError("the answer is too long")
        start = len(body)
        body += bytes(size)
        connection.fill(memoryview(body)[start:])
        if _read_line(connection):
            raise ProtocolError("a chunk longer than its size")


def _pass_trailers(connection: Connection) -> None:
    passed = 0
    while line := _read_line(connection):
        passed += len(line)
        if passed > HEAD_BYTES_MAX:
            raise ProtocolError("the trailers do not end")


def _read_line(connection: Connection) -> bytes:
    while (end := connection.pending.find(b"\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise ProtocolError("a line that does not end")
        connection.receive()
    return connection.take(end + 2)[:end]


def _read_to_end(connection: Connection) -> bytes:
    body = bytearray(connection.take(len(connection.pending)))
    while more := connection.read_to_end():
        body += more
        if len(body) > ANSWER_BYTES_MAX:
            raise ProtocolError("the answer is too long")
    return bytes(body)
