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
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from manifests.errors import ConfigurationError

Body: TypeAlias = memoryview | bytes | Iterable[memoryview | bytes]

HEAD_BYTES_MAX: Final = 256 * 1024
"""Longest head of an answer. 8 KiB of metadata fits many times."""
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest answer that does not go into a caller's buffer. A page of 5,000 blobs with metadata
fits."""
RECEIVE_BYTES: Final = 64 * 1024
"""Asked of the socket while the length is unknown."""
WAKE_BYTES: Final = 1024 * 1024
"""While more than twice this is still to come, the kernel wakes us for no less (SO_RCVLOWAT, see
socket(7)): a body then costs half the CPU. It also keeps the receive window above 2 MiB."""
SEND_BYTES: Final = 1024 * 1024
"""Handed to the socket in one call, each with a timeout of its own."""
JOINED_BYTES: Final = 64 * 1024
"""A body up to this size leaves together with its head, in one system call."""
EXPECT_BYTES: Final = 1024 * 1024
"""From this size on a body waits for `100 Continue`: a refusal then arrives, where else a reset
would."""
EXPECT_SECONDS: Final = 1.0
"""How long it waits before it goes out all the same: hosts may ignore Expect (RFC 9110, 10.1.1)."""


class BrokenExchange(Exception):
    """The exchange ended without an answer. Stores turn it into an error of manifests.errors."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent
        """True where the whole request went out: the host may have acted on it."""


class _Malformed(Exception):
    """What came is not HTTP/1.1, or ended early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireSettings:
    """How one host is reached. Times are seconds."""

    url: str
    """scheme://host[:port]. Plain http is taken for this machine only, unless
    `allow_plain_http`."""
    ca_bundle: str | None = None
    """PEM file with the only roots to trust. None: those of the system."""
    allow_plain_http: bool = False
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0
    """Longest wait for the next byte, in both directions."""
    keep_seconds: float = 15.0
    """A connection that rested longer is closed, not used: hosts close theirs after some 20
    seconds."""
    keep_connections: int = 64
    """Resting connections at most. 0: every exchange opens its own."""


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
class _Connection:
    sock: socket.socket
    poller: select.poll = field(default_factory=select.poll)
    rested_at: float = 0.0
    pending: bytes = b""
    """Received, and not yet taken."""

    def receive(self) -> None:
        """Wait for more bytes and add them to `pending`."""
        more = self.sock.recv(RECEIVE_BYTES)
        if not more:
            raise _Malformed("the host closed the connection")
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
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_BYTES)
        while view:
            count = self.sock.recv_into(view)
            if count == 0:
                raise _Malformed(f"the body ended {len(view)} bytes early")
            view = view[count:]
            if patient and len(view) <= 2 * WAKE_BYTES:
                # TLS may hold a record back: so this ends well before the last byte.
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
                patient = False


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
        self._resting: deque[_Connection] = deque()
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
            status, answered = _read_head(connection)
            if wait_seconds is not None:
                connection.sock.settimeout(self._settings.idle_seconds)
            answer, reusable = _read_body(connection, method, status, answered, into)
        except (OSError, _Malformed) as error:
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
        """Close the resting connections. Those in use are closed or kept by their exchange."""
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

    def _take(self) -> _Connection:
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

    def _rest(self, connection: _Connection) -> None:
        if connection.pending or len(self._resting) >= self._settings.keep_connections:
            connection.sock.close()
            return
        connection.rested_at = time.monotonic()
        self._resting.append(connection)

    def _connect(self) -> _Connection:
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
        connection = _Connection(sock)
        connection.poller.register(sock, select.POLLIN)
        return connection

    def _send(
        self, connection: _Connection, head: bytes, body: Body | None, body_bytes: int
    ) -> Answer | None:
        """Send all of it. Returns the answer by which the host refused the body unread, if it
        did."""
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


def _await_continue(connection: _Connection) -> Answer | None:
    connection.sock.settimeout(EXPECT_SECONDS)
    try:
        status, headers = _read_one_head(connection)
        if status < 200:
            return None
        return _read_body(connection, "PUT", status, headers, None)[0]
    except TimeoutError:
        return None


def _last_words(connection: _Connection) -> Answer:
    """What the host said before it closed on a body it did not want."""
    connection.sock.settimeout(EXPECT_SECONDS)
    status, headers = _read_head(connection)
    if status < 300:
        raise _Malformed(f"{status} before the body had ended")
    return _read_body(connection, "PUT", status, headers, None)[0]


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


def _read_head(connection: _Connection) -> tuple[int, dict[str, str]]:
    """Status and headers of the final answer, interim ones (1xx) passed over."""
    while True:
        status, headers = _read_one_head(connection)
        if status >= 200:
            return status, headers


def _read_one_head(connection: _Connection) -> tuple[int, dict[str, str]]:
    while (end := connection.pending.find(b"\r\n\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise _Malformed("the head of the answer does not end")
        connection.receive()
    lines = _decode(connection.take(end + 4)[:end]).split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdecimal():
        raise _Malformed("the answer is not HTTP/1.1")
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


def _read_body(
    connection: _Connection,
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
            raise _Malformed("Content-Length is no number")
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


def _read_chunks(connection: _Connection) -> bytes:
    """A chunked body (RFC 9112, 7.1); its trailers are passed over."""
    body = bytearray()
    while True:
        size_text, _, _ = _read_line(connection).partition(b";")
        try:
            size = int(size_text, 16)
        except ValueError:
            raise _Malformed("a chunk without a size") from None
        if size == 0:
            while _read_line(connection):
                pass
            return bytes(body)
        if size < 0 or len(body) + size > ANSWER_BYTES_MAX:
            raise _Malformed("the answer is too long")
        start = len(body)
        body += bytes(size)
        connection.fill(memoryview(body)[start:])
        if _read_line(connection):
            raise _Malformed("a chunk longer than its size")


def _read_line(connection: _Connection) -> bytes:
    while (end := connection.pending.find(b"\r\n")) < 0:
        if len(connection.pending) > HEAD_BYTES_MAX:
            raise _Malformed("a line that does not end")
        connection.receive()
    return connection.take(end + 2)[:end]


def _read_to_end(connection: _Connection) -> bytes:
    body = bytearray(connection.take(len(connection.pending)))
    while more := connection.sock.recv(RECEIVE_BYTES):
        body += more
        if len(body) > ANSWER_BYTES_MAX:
            raise _Malformed("the answer is too long")
    return bytes(body)


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, the chain and the host name checked, against `ca_bundle` alone if it is
    given."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise ConfigurationError(f"ca_bundle cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
