"""HTTP/1.1 to one host, made for large bodies: no copy, no retry, no redirect, no decoding.

An object mover needs little of HTTP and needs it cheap. Bodies go from and into the caller's
buffers, and a small request costs about 100 us of CPU, where urllib3 takes about 400. One call is
one exchange; what its status means is for the stores to say.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from manifests.errors import ConfigurationError
from workers.http1 import Answer, Connection, Malformed, read_body, read_head, read_one_head

Body: TypeAlias = memoryview | bytes | Iterable[memoryview | bytes]

SEND_BYTES: Final = 1024 * 1024
"""Handed to the socket in one call, each with a timeout of its own."""
JOINED_BYTES: Final = 64 * 1024
"""A body up to this size leaves together with its head, in one system call."""
EXPECT_BYTES: Final = 1024 * 1024
"""From this size on a body waits for `100 Continue`, so that a refusal comes as an answer."""
EXPECT_SECONDS: Final = 1.0
"""How long it waits before it goes out all the same: hosts may ignore Expect (RFC 9110, 10.1.1)."""


class BrokenExchange(Exception):
    """The exchange ended without an answer. Stores turn it into an error of manifests.errors."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent
        """True where the whole request went out: the host may have acted on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """How one host is reached. Times are seconds."""

    url: str
    """scheme://host[:port]. Plain http: for this machine only, unless `allow_plain_http`."""
    ca_bundle: str | None = None
    """PEM file with the only roots to trust. None: those of the system."""
    allow_plain_http: bool = False
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0
    """Longest wait for the next byte, in both directions."""
    keep_seconds: float = 15.0
    """A connection that rested longer is not used: many hosts close theirs after 20 seconds."""
    keep_connections: int = 64
    """Resting connections at most. 0: every exchange opens its own."""


class Wire:
    """A pool of connections to one host. Every method may be called from many threads."""

    def __init__(self, settings: WireSettings) -> None:
        url = urlsplit(settings.url)
        if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
            raise ConfigurationError("an endpoint is written https://host[:port], without a path")
        if url.scheme == "http" and not (settings.allow_plain_http or _is_loopback(url.hostname)):
            raise ConfigurationError(
                f"plain http to {url.hostname} is refused: use https, or set allow_plain_http "
                "where the network in between is trusted"
            )
        self._settings = settings
        self._name = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = _tls_context(settings.ca_bundle) if url.scheme == "https" else None
        self._resting: deque[Connection] = deque()
        self._closed = False
        self.host = url.netloc
        """The Host header, which signatures cover."""

    def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        *,
        body: Body | None = None,
        body_bytes: int = 0,
        into: memoryview | None = None,
        wait_seconds: float | None = None,
    ) -> Answer:
        """Send one request, read its answer.

        `target` is path and query, encoded. `body_bytes` is the length of an iterable body, which
        is sent as it comes; what it raises passes through. `into` takes the body of a 200 or 206 if
        the lengths agree. `wait_seconds` is how long the answer may take to begin (None:
        idle_seconds). Raises BrokenExchange, or ConfigurationError where the host's certificate is
        not trusted.
        """
        if isinstance(body, bytes | memoryview):
            body_bytes = len(body)
        head = self._head(method, target, headers, None if body is None else body_bytes)
        connection = self._take()
        sent = False
        try:
            refusal = self._send(connection, head, body, body_bytes)
            if refusal is not None:
                connection.sock.close()
                return refusal
            sent = True
            connection.sock.settimeout(wait_seconds or self._settings.idle_seconds)
            status, answered = read_head(connection)
            if wait_seconds is not None:
                connection.sock.settimeout(self._settings.idle_seconds)
            answer, reusable = read_body(connection, method, status, answered, into)
        except (OSError, Malformed) as error:
            connection.sock.close()
            raise BrokenExchange(f"{type(error).__name__}: {error}", sent=sent) from error
        except BaseException:
            connection.sock.close()
            raise
        if reusable:
            self._rest(connection)
        else:
            connection.sock.close()
        return answer

    def close(self) -> None:
        """Close the resting connections. Those in use are closed by their exchange."""
        self._closed = True
        while self._resting:
            self._resting.pop().sock.close()

    def _head(
        self, method: str, target: str, headers: Mapping[str, str], body_bytes: int | None
    ) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", f"host: {self.host}", "user-agent: noria"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body_bytes is not None:
            lines.append(f"content-length: {body_bytes}")
            if body_bytes >= EXPECT_BYTES:
                lines.append("expect: 100-continue")
        text = "\r\n".join(lines)
        breaks = len(lines) - 1
        if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
            raise ValueError("a header holds a line break")
        return (text + "\r\n\r\n").encode()

    def _take(self) -> Connection:
        """The connection that rested last, if it is fit; else a new one."""
        now = time.monotonic()
        while True:
            try:
                connection = self._resting.pop()
            except IndexError:
                return self._connect()
            rested_seconds = now - connection.rested_at
            # Readable while nothing was asked: the host has closed it.
            if rested_seconds <= self._settings.keep_seconds and not connection.poller.poll(0):
                return connection
            connection.sock.close()

    def _rest(self, connection: Connection) -> None:
        full = len(self._resting) >= self._settings.keep_connections
        if self._closed or full or connection.pending:
            connection.sock.close()
            return
        connection.rested_at = time.monotonic()
        self._resting.append(connection)

    def _connect(self) -> Connection:
        address = (self._name, self._port)
        try:
            sock = socket.create_connection(address, self._settings.connect_seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_hostname=self._name)
        except ssl.SSLCertVerificationError as error:
            raise ConfigurationError(
                f"the certificate of {self._name} is not trusted ({error.verify_message}): "
                "check the endpoint, or name its authority in ca_bundle"
            ) from error
        except OSError as error:
            raise BrokenExchange(f"no connection to {self._name}: {error}", sent=False) from error
        connection = Connection(sock)
        connection.poller.register(sock, select.POLLIN)
        return connection

    def _send(
        self, connection: Connection, head: bytes, body: Body | None, body_bytes: int
    ) -> Answer | None:
        """Send all of it. Returns an answer where the host refused the body unread."""
        sock = connection.sock
        sock.settimeout(self._settings.idle_seconds)
        if body is None:
            sock.sendall(head)
            return None
        if isinstance(body, bytes | memoryview) and body_bytes <= JOINED_BYTES:
            sock.sendall(b"".join((head, body)))
            return None
        sock.sendall(head)
        if body_bytes >= EXPECT_BYTES:
            refusal = _await_continue(connection)
            if refusal is not None:
                return refusal
            sock.settimeout(self._settings.idle_seconds)
        try:
            _send_body(sock, body, body_bytes)
        except (BrokenPipeError, ConnectionResetError):
            return _last_words(connection)
        return None


def _await_continue(connection: Connection) -> Answer | None:
    connection.sock.settimeout(EXPECT_SECONDS)
    try:
        status, headers = read_one_head(connection)
        if status < 200:
            return None
        return read_body(connection, "PUT", status, headers, None)[0]
    except TimeoutError:
        return None


def _last_words(connection: Connection) -> Answer:
    """What the host said before it closed on a body it did not want."""
    connection.sock.settimeout(EXPECT_SECONDS)
    status, headers = read_head(connection)
    if status < 300:
        raise Malformed(f"{status} before the body had ended")
    return read_body(connection, "PUT", status, headers, None)[0]


def _send_body(sock: socket.socket, body: Body, body_bytes: int) -> None:
    pieces = (body,) if isinstance(body, bytes | memoryview) else body
    left = body_bytes
    for piece in pieces:
        view = memoryview(piece)
        left -= len(view)
        if left < 0:
            break
        while view:
            view = view[sock.send(view[:SEND_BYTES]) :]
    if left:
        raise ValueError(f"the body is not of the announced {body_bytes} bytes")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; chain and host name checked, against `ca_bundle` alone if given."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise ConfigurationError(f"ca_bundle cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
