"""An HTTP proxy: tunnels by CONNECT, plain requests forwarded, and a password if it has one.

    with connect_proxy(password="user:secret") as proxy: ... proxy.url ... proxy.seen

It does what tinyproxy and squid do of RFC 9110 and 9112, and remembers what it was asked for.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from urllib.parse import quote, urlsplit

_PIECE_BYTES = 256 * 1024


@dataclass(slots=True)
class ConnectProxy:
    address: str
    """HOST:PORT."""
    password: str | None
    """USER:PASSWORD, or None: nobody is asked."""
    refuses: int | None = None
    """A status that answers every CONNECT instead."""
    leads_to: str | None = None
    """HOST:PORT where plain requests go, whichever name they ask for. None: where they say."""
    seen: list[str] = field(default_factory=list)
    """Request lines, those that were refused included."""

    @property
    def url(self) -> str:
        if self.password is None:
            return f"http://{self.address}"
        user, _, word = self.password.partition(":")
        return f"http://{quote(user, safe='')}:{quote(word, safe='')}@{self.address}"

    def serve(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        line, headers = _head(reader)
        if not line:
            return
        self.seen.append(line)
        method, _, rest = line.partition(" ")
        if self.password is not None:
            wanted = f"Basic {base64.b64encode(self.password.encode()).decode()}"
            if headers.get("proxy-authorization") != wanted:
                client.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b"Proxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
                )
                return
        if method == "CONNECT":
            if self.refuses is not None:
                client.sendall(f"HTTP/1.1 {self.refuses} No\r\nContent-Length: 0\r\n\r\n".encode())
                return
            name, _, port = rest.partition(" ")[0].rpartition(":")
            with socket.create_connection((name.strip("[]"), int(port))) as host:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pour, args=(host, client))
                back.start()
                _pour(client, host)
                back.join()
            return
        self._forward(client, reader, line, headers)

    def _forward(
        self, client: socket.socket, reader: BufferedReader, line: str, headers: dict[str, str]
    ) -> None:
        url = urlsplit(line.split(" ")[1])
        name, _, port = (self.leads_to or url.netloc).partition(":")
        with socket.create_connection((name, int(port or 80))) as host:
            back = threading.Thread(target=_pour, args=(host, client))
            back.start()
            while line:
                method, target, version = line.split(" ")
                asked = target.removeprefix(f"http://{url.netloc}")
                headers.pop("proxy-authorization", None)
                head = [f"{method} {asked} {version}"]
                head += [f"{name}: {value}" for name, value in headers.items()]
                host.sendall("\r\n".join((*head, "", "")).encode())
                left = int(headers.get("content-length", 0))
                while left and (piece := reader.read1(min(left, _PIECE_BYTES))):
                    host.sendall(piece)
                    left -= len(piece)
                line, headers = _head(reader)
                if line:
                    self.seen.append(line)
            host.shutdown(socket.SHUT_WR)
            back.join()


@contextmanager
def connect_proxy(
    password: str | None = None, refuses: int | None = None, leads_to: str | None = None
) -> Iterator[ConnectProxy]:
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = ConnectProxy(f"127.0.0.1:{listener.getsockname()[1]}", password, refuses, leads_to)

    def guarded(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            proxy.serve(client)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=guarded, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _head(reader: BufferedReader) -> tuple[str, dict[str, str]]:
    """Request line and headers, their names in lower case; nothing at the end."""
    line = reader.readline().decode().rstrip("\r\n")
    headers: dict[str, str] = {}
    while line and (each := reader.readline().decode().rstrip("\r\n")):
        name, _, value = each.partition(":")
        headers[name.lower()] = value.strip()
    return line, headers


def _pour(source: socket.socket, target: socket.socket) -> None:
    """Whatever comes, until one end is closed; then both hear of it."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            target.sendall(piece)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
