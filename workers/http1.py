"""The reading half of HTTP/1.1 (RFC 9112): answers off a socket, bodies into given buffers."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

HEAD_BYTES_MAX: Final = 256 * 1024
"""Longest head of an answer. 8 KiB of metadata fits many times."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest answer that goes into no given buffer. A page of 5,000 blobs with metadata fits."""
RECEIVE_BYTES: Final = 64 * 1024
"""Asked of the socket while the length is unknown."""
WAKE_BYTES: Final = 1024 * 1024
"""While more than twice this is still to come, the kernel wakes us for no less (SO_RCVLOWAT, see
socket(7)): a body then costs half the CPU. It also keeps the receive window above 2 MiB."""


class Malformed(Exception):
    """What came is not HTTP/1.1, or ended early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; the values of repeated ones joined by a comma."""
    body: bytes = b""
    """Empty where the body went into the caller's buffer."""
    filled: bool = False
    """True where the body went into the caller's buffer: both are of the same length."""


@dataclass(slots=True)
class Connection:
    sock: socket.socket
    poller: select.poll = field(default_factory=select.poll)
    rested_at: float = 0.0
    pending: bytes = b""
    """Received, and not yet taken."""

    def receive(self) -> None:
        """Wait for more bytes and add them to `pending`."""
        more = self.sock.recv(RECEIVE_BYTES)
        if not more:
            raise Malformed("the host closed the connection")
        self.pending += more

    def take(self, size: int) -> bytes:
        """Up to `size` pending bytes."""
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def fill(self, view: memoryview) -> None:
        """Read exactly len(view) bytes."""
        early = self.take(len(view))
        view[: len(early)] = early
        view = view[len(early) :]
        patient = len(view) > 2 * WAKE_BYTES
        if patient:
            self._wake_at(WAKE_BYTES)
        while view:
            count = self.sock.recv_into(view)
            if count == 0:
                raise Malformed(f"the body ended {len(view)} bytes early")
            view = view[count:]
            if patient and len(view) <= 2 * WAKE_BYTES:
                # TLS may hold a record back: so this ends well before the last byte.
                self._wake_at(1)
                patient = False

    def _wake_at(self, size: int) -> None:
        with contextlib.suppress(OSError):  # a kernel without it works as well, at more CPU
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def read_head(connection: Connection) -> tuple[int, dict[str, str]]:
    """Status and headers of the final answer, interim ones (1xx) passed over."""
    while True:
        status, headers = read_one_head(connection)
        if status >= 200:
            return status, headers


def read_one_head(connection: Connection) -> tuple[int, dict[str, str]]:
    while (end := connection.pending.find(b"\r\n\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise Malformed("the head of the answer does not end")
        connection.receive()
    lines = _decode(connection.take(end + 4)[:end]).split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdecimal():
        raise Malformed("the answer is not HTTP/1.1")
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
    into: memoryview | None,
) -> tuple[Answer, bool]:
    """The answer, and whether its connection may serve another exchange."""
    reusable = "close" not in headers.get("connection", "").lower()
    bare = Answer(status=status, headers=headers)
    if method == "HEAD" or status in (204, 304):
        return bare, reusable
    view = into if status in (200, 206) else None
    if "transfer-encoding" in headers:
        body = _read_chunks(connection)
    elif "content-length" in headers:
        if not headers["content-length"].isdecimal():
            raise Malformed("Content-Length is no number")
        length = int(headers["content-length"])
        if length > ANSWER_BYTES_MAX if view is None else length != len(view):
            return bare, False
        if view is not None:
            connection.fill(view)
            return Answer(status=status, headers=headers, filled=True), reusable
        buffer = bytearray(length)
        connection.fill(memoryview(buffer))
        body = bytes(buffer)
    else:
        body, reusable = _read_to_end(connection), False
    if view is None:
        return Answer(status=status, headers=headers, body=body), reusable
    if len(body) != len(view):
        return bare, reusable
    # Stores state a length with what they serve; the copy is for a proxy that dropped it.
    view[:] = body
    return Answer(status=status, headers=headers, filled=True), reusable


def _read_chunks(connection: Connection) -> bytes:
    """A chunked body (RFC 9112, 7.1); its trailers are passed over."""
    body = bytearray()
    while True:
        size_text, _, _ = _read_line(connection).partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise Malformed("a chunk without a size") from None
        if size == 0:
            while _read_line(connection):
                pass
            return bytes(body)
        if size < 0 or len(body) + size > ANSWER_BYTES_MAX:
            raise Malformed("the answer is too long")
        start = len(body)
        body += bytes(size)
        connection.fill(memoryview(body)[start:])
        if _read_line(connection):
            raise Malformed("a chunk longer than its size")


def _read_line(connection: Connection) -> bytes:
    while (end := connection.pending.find(b"\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise Malformed("a line that does not end")
        connection.receive()
    return connection.take(end + 2)[:end]


def _read_to_end(connection: Connection) -> bytes:
    body = bytearray(connection.take(len(connection.pending)))
    while more := connection.sock.recv(RECEIVE_BYTES):
        body += more
        if len(body) > ANSWER_BYTES_MAX:
            raise Malformed("the answer is too long")
    return bytes(body)
