"""The reading half of HTTP/1.1 (RFC 9112): responses from a connection, bodies into buffers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from noria.workers.http.connection import Connection, OnBytes, ProtocolError
from noria.workers.runtime.buffers import BodyBuffer, body_slices

HEAD_BYTES_MAX: Final = 256 * 1024
"""Longest head of a response. 8 KiB of metadata fits many times."""
RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest body without a buffer of the caller's. A page of 5,000 blobs with metadata fits."""
INTERIM_MAX: Final = 16
"""Most interim responses before the final one. Stores send one 100, and proxies may send 102s."""

_STATUS = re.compile(r"[1-9][0-9]{2}(?: |$)")
_LENGTH = re.compile(r"[0-9]{1,18}")


class Headers(dict[str, str]):
    """Headers by name in lower case; the values of repeated names are joined by a comma.

    Names of headers have no case (RFC 9110, 5.1), but Azure writes names of metadata into them,
    whose case its users see. So the form in which a name came is kept.
    """

    __slots__ = ("_spelled",)

    def __init__(self) -> None:
        super().__init__()
        self._spelled: dict[str, str] = {}

    def add(self, name: str, value: str) -> None:
        """Take one line of a head."""
        lower = name.lower()
        if lower != name:
            self._spelled[lower] = name
        self[lower] = f"{self[lower]}, {value}" if lower in self else value

    def spelled(self, name: str) -> str:
        """Return a name in lower case as the host wrote it."""
        return self._spelled.get(name, name)


def as_written(headers: Mapping[str, str], name: str) -> str:
    """Return a name in lower case as the host wrote it, if that is known."""
    return headers.spelled(name) if isinstance(headers, Headers) else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response to one request."""

    status: int
    headers: Mapping[str, str]
    """As Headers: names in lower case."""
    body: bytes = b""
    """Empty if the body went into the caller's buffer."""
    filled: bool = False
    """True if the body went into the caller's buffer: both have the same length."""


class Fill(Protocol):
    """Reads exactly len(view) bytes of a body into `view`, as Connection.fill does."""

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
    """Read the bytes [start, end) of a body into `room` by calls of `fill`."""
    for view in body_slices(room, start, end):
        start += len(view)
        fill(view, on_bytes, more_bytes=end - start + more_bytes)


class BodyFormat(Protocol):
    """A format that a host may wrap around the bytes of a body, such as checksums."""

    def wraps(self, headers: Mapping[str, str]) -> bool:
        """Return True if the response with these headers has a body in this format."""

    def unwrap(
        self,
        headers: Mapping[str, str],
        body_bytes: int,
        fill: Fill,
        into: BodyBuffer,
        on_bytes: OnBytes | None,
    ) -> bool:
        """Read a wrapped body of `body_bytes` bytes and fill `into` with what it contains.

        Returns False, and reads nothing, if the lengths do not agree.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """The buffer for the body of a 200 or 206. It is filled only if the lengths agree."""

    into: BodyBuffer
    on_bytes: OnBytes | None = None
    """Gets the pieces of `into` as they come, in order."""
    body_format: BodyFormat | None = None
    """The format to unwrap if the host uses it."""


def read_head(connection: Connection) -> tuple[int, Headers]:
    """Return the status and headers of the final response; interim ones (1xx) are skipped."""
    for _ in range(INTERIM_MAX + 1):
        status, headers = read_one_head(connection)
        if status >= 200:
            return status, headers
    raise ProtocolError("too many interim responses without a final one")


def read_one_head(connection: Connection) -> tuple[int, Headers]:
    while (end := connection.pending.find(b"\r\n\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise ProtocolError("the head of the response does not end")
        connection.receive()
    lines = _decoded_lines(connection.take(end + 4)[:end])
    version, _, rest = lines[0].partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not _STATUS.match(rest):
        raise ProtocolError("the response is not HTTP/1.1")
    headers = Headers()
    if version == "HTTP/1.0":
        headers.add("connection", "close")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.add(name, value.strip(" \t"))
    return int(rest[:3]), headers


def _decoded_lines(head: bytes) -> list[str]:
    """Decode each line as UTF-8 if possible, else as Latin-1 (RFC 9110, 5.5: opaque bytes).

    Stores return metadata in UTF-8. What another client wrote into one header does not make
    the others be read in another way.
    """
    try:
        return head.decode().split("\r\n")
    except UnicodeDecodeError:
        return [_decoded(line) for line in head.split(b"\r\n")]


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def read_body(
    connection: Connection,
    method: str,
    status: int,
    headers: Mapping[str, str],
    sink: Sink | None = None,
) -> tuple[Response, bool]:
    """Return the response, and whether its connection may be used for another exchange."""
    reusable = "close" not in headers.get("connection", "").lower()
    if method == "HEAD" or status in (204, 304):
        return Response(status=status, headers=headers), reusable
    if status not in (200, 206):
        sink = None
    if sink is not None and sink.body_format is not None and sink.body_format.wraps(headers):
        if not _read_wrapped(connection, headers, sink, sink.body_format):
            return Response(status=status, headers=headers), False
        return Response(status=status, headers=headers, filled=True), reusable
    if "transfer-encoding" in headers:
        body = _read_chunks(connection)
    elif "content-length" in headers:
        length = _length(headers)
        if length > RESPONSE_BYTES_MAX if sink is None else length != len(sink.into):
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
    # Stores state the length of an object; this copy is for a proxy that dropped the header.
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
    body_format: BodyFormat,
) -> bool:
    """Unwrap the body into the sink. Returns False if the lengths do not agree.

    A wrapped body has a Content-Length, or comes in chunks, which are held in memory first.
    """
    if "transfer-encoding" in headers:
        held = _Held(_read_chunks(connection, len(sink.into) + RESPONSE_BYTES_MAX))
        return body_format.unwrap(headers, len(held.body), held.fill, sink.into, sink.on_bytes)
    if "content-length" not in headers:
        return False
    fill = connection.fill
    return body_format.unwrap(headers, _length(headers), fill, sink.into, sink.on_bytes)


class _Held:
    """A body that is in memory already, with the `fill` of a connection."""

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


def _read_chunks(connection: Connection, most_bytes: int = RESPONSE_BYTES_MAX) -> bytes:
    """Read a chunked body (RFC 9112, 7.1); its trailers are skipped."""
    body = bytearray()
    while True:
        size_text, _, _ = _read_line(connection).partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise ProtocolError("a chunk has no size") from None
        if size == 0:
            _pass_trailers(connection)
            return bytes(body)
        if size < 0 or len(body) + size > most_bytes:
            raise ProtocolError("the response is too long")
        start = len(body)
        body += bytes(size)
        connection.fill(memoryview(body)[start:])
        if _read_line(connection):
            raise ProtocolError("a chunk is longer than its size")


def _pass_trailers(connection: Connection) -> None:
    passed = 0
    while line := _read_line(connection):
        passed += len(line)
        if passed > HEAD_BYTES_MAX:
            raise ProtocolError("the trailers do not end")


def _read_line(connection: Connection) -> bytes:
    while (end := connection.pending.find(b"\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise ProtocolError("a line does not end")
        connection.receive()
    return connection.take(end + 2)[:end]


def _read_to_end(connection: Connection) -> bytes:
    body = bytearray(connection.take(len(connection.pending)))
    while more := connection.read_to_end():
        body += more
        if len(body) > RESPONSE_BYTES_MAX:
            raise ProtocolError("the response is too long")
    return bytes(body)
