"""HTTP/1.1 to one host, made for large bodies: no copy, no retry, no redirect, no decoding.

An object mover needs little of HTTP, and needs it cheap. Bodies are sent from the caller's buffers
and received into them. A small request costs about 100 us of CPU; urllib3 takes about 400. One call
is one exchange; the stores decide what its status means.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import random
import socket
import ssl
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from noria.manifests.errors import ConfigurationError
from noria.workers.http.connection import Connection, OnSent, ProtocolError, TlsConnection
from noria.workers.http.proxies import NO_PROXIES, Proxies, Proxy
from noria.workers.http.response import Response, Sink, read_body, read_head, read_one_head
from noria.workers.http.resting import RestingConnections
from noria.workers.runtime.greenlets import FiberPool, Readiness, apart, current_pool

Send: TypeAlias = Callable[[memoryview | bytes], None]
BodyWriter: TypeAlias = Callable[[Send], None]
"""Sends a body in pieces, each by a call of the function it is given."""
_Address: TypeAlias = tuple[socket.AddressFamily, Any]
"""The family, and the address as sockets of that family take it."""

PLAIN: Final = "plain"
"""A connection without encryption, as connections() counts it."""
JOINED_BYTES: Final = 64 * 1024
"""A body up to this size is sent together with its head, in one system call."""
EXPECT_BYTES: Final = 1024 * 1024
"""A body of this size or more waits for `100 Continue`, so that a refusal comes as a response."""
EXPECT_SECONDS: Final = 1.0
"""The body is sent after this wait in any case: hosts may ignore Expect (RFC 9110, 10.1.1)."""
EXPECTATION_FAILED: Final = 417
"""The host, or a proxy before it, does not do `Expect`: the request is repeated without it."""


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A body that is sent as it is written. Errors of `write` propagate."""

    write: BodyWriter
    size: int
    """In bytes. If `write` sends another number, the request fails before it is complete."""


Body: TypeAlias = memoryview | bytes | StreamedBody


@dataclass(slots=True)
class _Begun:
    """What has been sent of one request."""

    body: bool = False


class TransportError(Exception):
    """The exchange ended without a response. Stores turn it into an error of manifests.errors."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent
        """True if the whole request was sent: the host may have acted on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a host."""

    method: str
    target: str
    """Path and query, encoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Without host, content-length and expect, which the client adds."""
    body: Body | None = None
    wait_seconds: float | None = None
    """Longest wait for the start of the response. None: idle_seconds."""
    on_sent: OnSent | None = None
    """Gets the bytes of the body as they are handed to the network, whatever comes of them.

    A body that is sent once more is counted once more. None: nobody counts them.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """How one host is reached. Times are seconds."""

    url: str
    """scheme://host[:port]. Plain http: for this machine only, unless `allow_plain_http`."""
    ca_bundle: str | None = None
    """PEM file, or a folder of hashed ones, with the only root certificates to trust.

    None: those of SSL_CERT_FILE and SSL_CERT_DIR, which OpenSSL reads, else the system's.
    """
    allow_plain_http: bool = False
    proxies: Proxies = NO_PROXIES
    connect_seconds: float = 10.0
    idle_seconds: float = 60.0
    """Longest wait for the next byte, in both directions."""
    least_rate: float = 1024.0
    """Fewest bytes a second of what is sent or received, over a minute; 0: any.

    A connection that is slower counts as broken. A request that has `wait_seconds` is answered in
    its own time, so its response may be slower.
    """
    keep_seconds: float = 15.0
    """A connection idle for longer is not used: many hosts close theirs after 20 seconds."""
    keep_connections: int = 512
    """Most idle connections. 0: every exchange opens its own."""
    resolve_seconds: float = 5.0
    """How long the addresses of the host's name are cached.

    Each new connection goes to one of them at random, since large stores have many.
    """


class HttpClient:
    """A pool of connections to one host, for many threads and fibers at once."""

    def __init__(self, settings: HttpSettings, resting: RestingConnections | None = None) -> None:
        """`resting` has the connections that other clients of this process have done with.

        Raises ConfigurationError.
        """
        url = urlsplit(settings.url)
        if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
            raise ConfigurationError("an endpoint is written https://host[:port], without a path")
        if url.scheme == "http" and not (settings.allow_plain_http or _is_loopback(url.hostname)):
            raise ConfigurationError(
                f"plain http to {url.hostname} is refused: use https, or set allow_plain_http "
                "if you trust the network in between"
            )
        self._settings = settings
        self._name = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = _tls_context(settings.ca_bundle) if url.scheme == "https" else None
        self._proxy = settings.proxies.leading_to(url.scheme, self._name, self._port)
        self._forwarded: tuple[str, ...] = ()
        """What every head says to a proxy that forwards requests, as it does over plain http."""
        self._origin = ""
        """What a forwarded request's target begins with (RFC 9112, 3.2.2)."""
        if self._proxy is not None and self._tls is None:
            self._forward_through(self._proxy, url.netloc, allowed=settings.allow_plain_http)
        self._idle: defaultdict[FiberPool | None, deque[Connection]] = defaultdict(deque)
        """Those used by threads (None), and those of each pool of fibers."""
        self._addresses: tuple[float, list[_Address]] = (float("-inf"), [])
        self._closed = False
        self._resting = resting
        if resting is not None:
            resting.close_old(settings.keep_seconds)
        self._expects = True
        """False: the host has refused an Expect, and gets no more of them."""
        self.host = url.netloc
        """The Host header, which signatures cover."""
        self.encryption: str | None = None
        """As Connection.encryption, of the connection that was opened last."""
        self._opened: Counter[str] = Counter()
        self._opened_lock = threading.Lock()

    def exchange(self, request: Request, sink: Sink | None = None) -> Response:
        """Send one request and read the response; the body of a 200 or 206 goes into the sink.

        If the host refuses to be asked whether it wants the body (417), the request is sent once
        more without the question, unless a body that can be written only once has been begun.
        Errors of the body writer and the sink propagate, an OSError of a sink as a TransportError.
        Raises TransportError, or ConfigurationError if the host's certificate is not trusted.
        """
        asks = self._expects and (_length(request.body) or 0) >= EXPECT_BYTES
        begun = _Begun()
        response = self._exchange(request, sink, begun, asks=asks)
        if response.status != EXPECTATION_FAILED or not asks:
            return response
        self._expects = False
        if begun.body and isinstance(request.body, StreamedBody):
            raise TransportError("the host refuses Expect: 100-continue", sent=False)
        return self._exchange(request, sink, begun, asks=False)

    def _exchange(
        self, request: Request, sink: Sink | None, begun: _Begun, *, asks: bool
    ) -> Response:
        """Send one request, once; `asks` says whether the host is asked to want the body first."""
        body = request.body
        head = self._head(request, _length(body), asks=asks)
        connection = self._take()
        connection.begin_rate(self._settings.least_rate)
        sent = False
        try:
            refusal = self._send(connection, head, request, begun, asks=asks)
            if refusal is not None:
                connection.close()
                return refusal
            sent = True
            if request.wait_seconds is not None:
                connection.idle_seconds = request.wait_seconds
                connection.least_rate = 0.0
            status, answered = read_head(connection)
            connection.idle_seconds = self._settings.idle_seconds
            connection.begin_rate(connection.least_rate)
            response, reusable = read_body(connection, request.method, status, answered, sink)
        except (OSError, ProtocolError) as error:
            connection.reset()
            raise TransportError(f"{type(error).__name__}: {error}", sent=sent) from error
        except BaseException:
            connection.reset()
            raise
        if reusable:
            self._keep_idle(connection)
        else:
            connection.close()
        if self._proxy is not None and response.status == 407:
            raise _unauthorized(self._proxy)
        return response

    def _forward_through(self, proxy: Proxy, host: str, *, allowed: bool) -> None:
        if not (allowed or _is_loopback(proxy.name)):
            raise ConfigurationError(
                f"plain http through the proxy {proxy} is refused: list {self._name} in NO_PROXY, "
                "use https, or set allow_plain_http if you trust the network in between"
            )
        self._origin = f"http://{host}"
        if proxy.authorization is not None:
            self._forwarded = (f"proxy-authorization: {proxy.authorization}",)

    def open_ahead(self, connections: int) -> None:
        """Open so many connections for exchanges on threads; returns at once.

        A request that is sent at once with others then waits for no handshake. Failures are left to
        the exchange that meets them.
        """
        there = 0 if self._resting is None else self._resting.count(self._settings)
        for _ in range(connections - there):
            threading.Thread(target=self._open_ahead, name="connect", daemon=True).start()

    def connections(self) -> Mapping[str, int]:
        """How many were opened so far, by Connection.encryption; PLAIN: without any."""
        with self._opened_lock:
            return dict(self._opened)

    def close(self) -> None:
        """Leave the idle connections to the next client of this host, or close them.

        Those in use are closed when their exchange ends.
        """
        self._closed = True
        for idle in list(self._idle.values()):
            while idle:
                connection = idle.popleft()
                if self._resting is None or not self._resting.leave(self._settings, connection):
                    connection.close()

    def _head(self, request: Request, body_bytes: int | None, *, asks: bool) -> bytes:
        """Return the request's head. `body_bytes` is None if there is no body."""
        first = f"{request.method} {self._origin}{request.target} HTTP/1.1"
        lines = [first, f"host: {self.host}", "user-agent: noria", *self._forwarded]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if body_bytes is not None:
            lines.append(f"content-length: {body_bytes}")
        if asks:
            lines.append("expect: 100-continue")
        text = "\r\n".join(lines)
        breaks = len(lines) - 1
        if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
            raise ValueError("a header contains a line break or a NUL")
        return (text + "\r\n\r\n").encode()

    def _take(self) -> Connection:
        """Return the connection that was used last, if it is usable; else a new one."""
        idle = self._idle[current_pool()]
        while True:
            try:
                connection = idle.pop()
            except IndexError:
                return self._take_rested() or self._connect()
            if self._is_usable(connection):
                return connection
            connection.close()

    def _take_rested(self) -> Connection | None:
        """One that another client has done with. It counts as one that this client has opened."""
        while self._resting is not None and (connection := self._resting.take(self._settings)):
            if self._is_usable(connection):
                self._count(connection)
                return connection
            connection.close()
        return None

    def _is_usable(self, connection: Connection) -> bool:
        rested_seconds = time.monotonic() - connection.idle_since
        return rested_seconds <= self._settings.keep_seconds and not connection.is_stale()

    def _keep_idle(self, connection: Connection) -> None:
        idle = self._idle[current_pool()]
        full = len(idle) >= self._settings.keep_connections
        if self._closed or full or connection.pending:
            connection.close()
            return
        connection.idle_since = time.monotonic()
        idle.append(connection)

    def _open_ahead(self) -> None:
        with contextlib.suppress(TransportError, ConfigurationError):
            self._keep_idle(self._connect())

    def _connect(self) -> Connection:
        try:
            connection = self._connect_to_any()
        except ssl.SSLCertVerificationError as error:
            raise ConfigurationError(
                f"the certificate of {self._name} is not trusted ({error.verify_message}): "
                "check the endpoint, or name its authority in ca_bundle"
            ) from error
        except (OSError, ProtocolError) as error:
            way = "" if self._proxy is None else f" through the proxy {self._proxy}"
            raise TransportError(
                f"no connection to {self._name}{way}: {error}", sent=False
            ) from error
        self._count(connection)
        return connection

    def _count(self, connection: Connection) -> None:
        self.encryption = connection.encryption
        with self._opened_lock:
            self._opened[connection.encryption or PLAIN] += 1

    def _connect_to_any(self) -> Connection:
        failure: OSError | None = None
        for address in self._resolve():
            try:
                return self._connect_to(address)
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
        raise failure or OSError("the name has no address")

    def _connect_to(self, address: _Address) -> Connection:
        family, place = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            readiness = Readiness(sock)
            while (code := sock.connect_ex(place)) in (errno.EINPROGRESS, errno.EALREADY):
                readiness.await_writing(self._settings.connect_seconds)
            if code not in (0, errno.EISCONN):
                raise OSError(code, os.strerror(code))
            seconds = self._settings.idle_seconds
            if self._tls is None:
                return Connection(sock, readiness, seconds)
            if self._proxy is not None:
                self._open_tunnel(self._proxy, Connection(sock, readiness, seconds))
            return TlsConnection(sock, readiness, seconds, self._tls, self._name)
        except BaseException:
            sock.close()
            raise

    def _open_tunnel(self, proxy: Proxy, connection: Connection) -> None:
        """Have the proxy connect us to the host. Raises OSError, ProtocolError, ConfigurationError.

        After this, the bytes on the connection are the host's.
        """
        name = f"[{self._name}]" if ":" in self._name else self._name
        lines = [f"CONNECT {name}:{self._port} HTTP/1.1", f"host: {name}:{self._port}"]
        if proxy.authorization is not None:
            lines.append(f"proxy-authorization: {proxy.authorization}")
        connection.request("\r\n".join((*lines, "", "")).encode())
        status, _ = read_head(connection)
        if status == 407:
            raise _unauthorized(proxy)
        if status in (403, 405):
            raise ConfigurationError(
                f"the proxy {proxy} refuses a tunnel to {name}:{self._port} ({status}): have it "
                "allowed there, or list the host in NO_PROXY"
            )
        if not 200 <= status < 300:
            raise ProtocolError(f"it answers CONNECT with {status}")
        if connection.pending:
            raise ProtocolError("it sends more than an answer to CONNECT")

    def _resolve(self) -> list[_Address]:
        """Return the addresses of the host or its proxy in random order.

        Those of the preferred family come first.
        """
        now = time.monotonic()
        since, addresses = self._addresses
        if now - since > self._settings.resolve_seconds:
            # Meanwhile others use the old ones; at first there are none, and they have to wait.
            self._addresses = (now if addresses else since, addresses)
            addresses = apart(self._look_up) if addresses else self._look_up()
            self._addresses = (now, addresses)
        preferred = addresses[0][0]
        shuffled = random.sample(addresses, len(addresses))
        return sorted(shuffled, key=lambda address: address[0] != preferred)

    def _look_up(self) -> list[_Address]:
        proxy = self._proxy
        name, port = (self._name, self._port) if proxy is None else (proxy.name, proxy.port)
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        return [(family, place) for family, _, _, _, place in found]

    def _send(
        self, connection: Connection, head: bytes, request: Request, begun: _Begun, *, asks: bool
    ) -> Response | None:
        """Send the request. Returns a response if the host refused the body before its end."""
        body, on_sent = request.body, request.on_sent
        if body is None:
            connection.request(head)
            return None
        body_bytes = _length(body) or 0
        if body_bytes <= JOINED_BYTES and not isinstance(body, StreamedBody):
            connection.request(b"".join((head, body)), _behind(len(head), on_sent))
            return None
        connection.send(head)
        if asks:
            refusal = _await_continue(connection, self._settings.idle_seconds)
            if refusal is not None:
                return refusal
        begun.body = True
        try:
            _send_body(connection, body, on_sent)
        except (BrokenPipeError, ConnectionResetError):
            return _read_refusal(connection)
        return None


def _await_continue(connection: Connection, idle_seconds: float) -> Response | None:
    connection.idle_seconds = min(EXPECT_SECONDS, idle_seconds)
    try:
        status, headers = read_one_head(connection)
        if status < 200:
            return None
        if status < 300:
            # Nothing was sent that could have been stored.
            raise ProtocolError(f"{status} before the body was sent")
        return read_body(connection, "PUT", status, headers)[0]
    except TimeoutError:
        return None
    finally:
        connection.idle_seconds = idle_seconds


def _read_refusal(connection: Connection) -> Response:
    """Read what the host sent before it closed the connection on an unwanted body."""
    connection.idle_seconds = EXPECT_SECONDS
    status, headers = read_head(connection)
    if status < 300:
        raise ProtocolError(f"{status} before the body had ended")
    return read_body(connection, "PUT", status, headers)[0]


def _unauthorized(proxy: Proxy) -> ConfigurationError:
    wrong = "refuses its user or password" if proxy.authorization else "asks for a password"
    return ConfigurationError(
        f"the proxy {proxy} {wrong} (407): write http://USER:PASSWORD@HOST:PORT, each "
        "percent-encoded"
    )


def _length(body: Body | None) -> int | None:
    if body is None:
        return None
    return body.size if isinstance(body, StreamedBody) else len(body)


def _behind(head_bytes: int, on_sent: OnSent | None) -> OnSent | None:
    """Return what counts the bytes behind the head alone."""
    if on_sent is None:
        return None
    left = head_bytes

    def count(sent: int) -> None:
        nonlocal left
        of_head = min(left, sent)
        left -= of_head
        if sent > of_head:
            on_sent(sent - of_head)

    return count


def _send_body(connection: Connection, body: Body, on_sent: OnSent | None) -> None:
    if not isinstance(body, StreamedBody):
        connection.send(body, on_sent)
        return
    left = body.size

    def send(piece: memoryview | bytes) -> None:
        nonlocal left
        left -= len(piece)
        if left < 0:
            raise ValueError(f"the body is longer than its announced {body.size} bytes")
        connection.send(piece, on_sent)

    body.write(send)
    if left:
        raise ValueError(f"the body is {left} bytes shorter than its announced {body.size} bytes")


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


@functools.cache
def _tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Require TLS 1.2, a trusted chain and the host's name; trust `ca_bundle` alone if given.

    Shared by all clients that trust the same: reading the system's roots takes 20 ms.
    """
    folder = ca_bundle if ca_bundle is not None and os.path.isdir(ca_bundle) else None
    try:
        context = ssl.create_default_context(cafile=None if folder else ca_bundle, capath=folder)
    except OSError as error:
        raise ConfigurationError(
            f"ca_bundle {ca_bundle} cannot be read ({error}): check its path"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
