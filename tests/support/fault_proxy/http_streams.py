"""HTTP/1.1 as a byte stream, for a proxy: heads and bodies, read off a socket and put on one."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass

BLOCK_BYTES = 128 * 1024
HEAD_BYTES_MAX = 256 * 1024
IO_SECONDS = 30.0
"""Longest wait for one byte, in either direction."""


class MalformedStream(Exception):
    """What came is not HTTP/1.1, or ended early."""


@dataclass(slots=True)
class MessageHead:
    """The first line and the fields of a request or an answer, as they came."""

    start: str
    fields: list[tuple[str, str]]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start.split(" ")[1])

    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.fields}

    def without(self, names: tuple[str, ...]) -> MessageHead:
        return MessageHead(
            self.start, [field for field in self.fields if field[0].lower() not in names]
        )

    def closing(self) -> MessageHead:
        """The same, and the last one on its connection."""
        return MessageHead(self.start, [*self.fields, ("connection", "close")])

    def encode(self) -> bytes:
        lines = [self.start, *(f"{name}: {value}" for name, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(slots=True)
class Stream:
    """A socket, read by heads and bodies."""

    sock: socket.socket
    pending: bytes = b""

    def __post_init__(self) -> None:
        self.sock.settimeout(IO_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, size: int = BLOCK_BYTES) -> bytes:
        """Up to `size` bytes; nothing at the end of the stream."""
        if self.pending:
            taken, self.pending = self.pending[:size], self.pending[size:]
            return taken
        return self.sock.recv(size)

    def head(self) -> MessageHead | None:
        """The next head, or None where the stream ends before one."""
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self.receive()
            if not more or len(data) > HEAD_BYTES_MAX:
                if data:
                    raise MalformedStream("a head that does not end")
                return None
            data += more
        self.pending = data[end + 4 :] + self.pending
        start, *lines = data[:end].decode("latin-1").split("\r\n")
        parted = (line.partition(":") for line in lines)
        return MessageHead(start, [(name, value.strip()) for name, _, value in parted])

    def final_head(self) -> MessageHead:
        """The head of an answer, interim ones (1xx) passed over."""
        while (head := self.head()) is not None:
            if head.status >= 200:
                return head
        raise MalformedStream("no answer")

    def body(self, headers: dict[str, str], *, to_end: bool) -> Iterator[bytes]:
        """The body that these headers announce, in blocks, without framing.

        `to_end`: a body of which nothing is announced ends with the stream.
        """
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self._line().split(b";")[0], 16):
                yield from self._exactly(size)
                self._line()
            while self._line():
                pass
        elif "content-length" in headers:
            yield from self._exactly(int(headers["content-length"]))
        elif to_end:
            yield from iter(self.receive, b"")

    def speaks(self, seconds: float) -> bool:
        """Whether there is something to read, the end of the stream included, within that time."""
        return bool(self.pending or select.select([self.sock], [], [], seconds)[0])

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            block = self.receive(min(size, BLOCK_BYTES))
            if not block:
                raise MalformedStream("a body that ended early")
            size -= len(block)
            yield block

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = self.receive(1)
            if not byte or len(line) > HEAD_BYTES_MAX:
                raise MalformedStream("a line that does not end")
            line += byte
        return line[:-2]


def chunk(block: bytes) -> bytes:
    """A block in chunked framing (RFC 9112, 7.1); an empty one ends the body."""
    return b"%x\r\n%b\r\n" % (len(block), block)
