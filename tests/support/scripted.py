"""A host that says what a test tells it to: for answers that no real server gives on demand."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Play = Callable[["Caller"], None]


@dataclass(slots=True)
class Caller:
    """One connection, as the host sees it."""

    sock: socket.socket
    number: int
    """Which connection it is, from 1."""
    _buffer: bytes = b""

    def request(self) -> bytes:
        """The head of the next request; nothing where the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            more = self.sock.recv(65536)
            if not more:
                return b""
            self._buffer += more
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def body(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self.sock.recv(65536)
            if not more:
                break
            self._buffer += more
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def say(self, *lines: str, body: bytes = b"") -> None:
        self.sock.sendall("\r\n".join((*lines, "", "")).encode() + body)


@dataclass(slots=True)
class ScriptedHost:
    url: str
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(play: Play, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedHost]:
    """Runs `play` for each connection, one after another; a client that goes away ends it."""
    listener = socket.create_server(("127.0.0.1", 0))
    host = ScriptedHost(url=f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}")

    def serve() -> None:
        number = 0
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            number += 1
            try:
                if tls is not None:
                    sock = tls.wrap_socket(sock, server_side=True)
                play(Caller(sock, number))
            except OSError:
                pass
            finally:
                sock.close()

    thread = threading.Thread(target=serve, name="scripted")
    thread.start()
    try:
        yield host
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
