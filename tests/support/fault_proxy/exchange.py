"""One connection through a fault proxy: request by request, passed on or broken as told."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from tests.support.fault_proxy.http_streams import (
    IO_SECONDS,
    MalformedStream,
    MessageHead,
    Stream,
    chunk,
)
from tests.support.fault_proxy.rules import Action, Operation, ProxiedRequest

EDITED_BYTES_MAX = 64 * 1024 * 1024
"""Longest body that is held as a whole, in order to change it."""
CONTINUE_SECONDS = 1.0
"""How long the upstream may think about an Expect before the body is let through."""
LOOK_SECONDS = 0.05
"""How often a stall looks whether the client has given up."""
HOP_HEADERS = ("connection", "keep-alive", "proxy-connection", "te", "upgrade")

Resign = Callable[[ProxiedRequest], dict[str, str]]
"""The headers of a request that the proxy changed, signed again."""


@dataclass(slots=True, kw_only=True)
class ProxiedExchange:
    """One request and what became of it: the evidence."""

    request: ProxiedRequest
    fault: str | None = None
    """The name of the action that was taken."""
    forwarded: bool = False
    upstream_status: int | None = None
    status: int | None = None
    """What the client was told. None: nothing."""
    request_bytes: int = 0
    """Of the body, as received from the client."""
    forwarded_bytes: int = 0
    """Of the body, as sent to the upstream."""
    answer_bytes: int = 0
    """Of the body, as sent to the client."""

    @property
    def operation(self) -> Operation:
        return self.request.operation

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def range(self) -> str | None:
        return self.request.headers.get("range")

    @property
    def happened(self) -> bool:
        """True where the upstream did what was asked, whatever the client was told."""
        return self.upstream_status is not None and 200 <= self.upstream_status < 300


class Script(Protocol):
    """What a conversation asks of its proxy."""

    upstream: tuple[str, int]
    resign: Resign | None
    closing: threading.Event

    def exchange(
        self, request: ProxiedRequest
    ) -> AbstractContextManager[tuple[ProxiedExchange, Action, random.Random]]:
        """Enter a request in the log; says what to do with it, and gives chance its seed."""


class Conversation:
    """One connection of a client, and the one to the upstream that serves it."""

    def __init__(self, script: Script, sock: socket.socket) -> None:
        self._script = script
        self._client = Stream(sock)
        self._upstream: Stream | None = None

    def run(self) -> None:
        """Serve the client until one side ends it. Closes both connections."""
        try:
            while (head := self._client.head()) is not None:
                if not self._exchange(head):
                    return
        except _Reset:
            with contextlib.suppress(OSError):
                self._client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        except (OSError, MalformedStream):
            pass  # one side is gone: the log shows how far it got
        finally:
            self._client.sock.close()
            self._drop_upstream()

    def hang_up(self) -> None:
        """Wake the thread that serves this connection; it closes the sockets."""
        for stream in (self._client, self._upstream):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.sock.shutdown(socket.SHUT_RDWR)

    def _exchange(self, head: MessageHead) -> bool:
        """Serve one request. True where the connection may serve another."""
        method, target, _ = head.start.split(" ")
        request = ProxiedRequest(method=method, target=target, headers=head.headers())
        with self._script.exchange(request) as (entry, action, draw):
            if action.meanwhile is not None:
                action.meanwhile()
            if action.stall_at == "request":
                self._stall(action.stall_seconds)
            if action.reset:
                raise _Reset
            if action.response is not None:
                return self._answer_alone(entry, action)
            try:
                upstream = self._reach_upstream()
                response = self._forward(upstream, head, entry, action, draw)
            except (OSError, MalformedStream):
                raise _Reset from None
            in_step = self._relay(upstream, response, entry, action, draw)
        if not in_step:
            self._drop_upstream()
        return in_step

    # -- towards the upstream ----------------------------------------------------------------------

    def _reach_upstream(self) -> Stream:
        if self._upstream is not None and self._upstream.speaks(0):
            self._drop_upstream()  # unasked: it has hung up
        if self._upstream is None:
            self._upstream = Stream(socket.create_connection(self._script.upstream, IO_SECONDS))
        return self._upstream

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.sock.close()
            self._upstream = None

    def _forward(
        self,
        upstream: Stream,
        head: MessageHead,
        entry: ProxiedExchange,
        action: Action,
        draw: random.Random,
    ) -> MessageHead:
        """Send the request on, and return the head of the answer.

        The head says `close` if not all of the request was taken.
        """
        headers = dict(entry.request.headers)
        dropped = [name for name in action.drop_headers if headers.pop(name, None) is not None]
        if dropped:
            request = replace(entry.request, headers=headers)
            headers = headers if self._script.resign is None else self._script.resign(request)
            head = MessageHead(head.start, list(headers.items()))
        upstream.sock.sendall(head.without(HOP_HEADERS).encode())
        entry.forwarded = True
        if "expect" in headers:
            refusal = self._await_continue(upstream)
            if refusal is not None:
                entry.upstream_status = refusal.status
                return refusal.closing()
            self._client.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        taken = self._send_body(upstream, headers, entry, action, draw)
        response = upstream.final_head()
        entry.upstream_status = response.status
        return response if taken else response.closing()

    def _await_continue(self, upstream: Stream) -> MessageHead | None:
        """The answer by which the upstream refused the body unread, if it did."""
        if not upstream.speaks(CONTINUE_SECONDS):
            return None
        head = upstream.head()
        if head is None:
            raise MalformedStream("no answer")
        return None if head.status < 200 else head

    def _send_body(
        self,
        upstream: Stream,
        headers: dict[str, str],
        entry: ProxiedExchange,
        action: Action,
        draw: random.Random,
    ) -> bool:
        """Stream the request's body. False where the upstream hung up before its end."""
        chunked = "transfer-encoding" in headers
        blocks = _counted(self._client.body(headers, to_end=False), entry)
        if action.flip_request:
            blocks = _flipped(blocks, action, int(headers.get("content-length", "0")), draw)
        pace = _Pace(action.bytes_per_second, self._script.closing)
        limit = action.reset_after_bytes
        for block in blocks:
            passed = block if limit is None else block[: limit - entry.forwarded_bytes]
            pace.wait_for(len(passed))
            if not _sent(upstream, chunk(passed) if chunked else passed):
                return False
            entry.forwarded_bytes += len(passed)
            if limit is not None and entry.forwarded_bytes >= limit:
                raise _Reset
        return _sent(upstream, chunk(b"")) if chunked else True

    # -- towards the client ------------------------------------------------------------------------

    def _answer_alone(self, entry: ProxiedExchange, action: Action) -> bool:
        """The proxy's own answer. A body that was announced by Expect is not asked for."""
        response = action.response
        assert response is not None
        headers = dict(entry.request.headers)
        unread = "expect" in headers
        if not unread:
            for _ in _counted(self._client.body(headers, to_end=False), entry):
                pass
        content = b"" if entry.method == "HEAD" else response.body
        fields = {**response.headers, "content-length": str(len(response.body))}
        if unread:
            fields["connection"] = "close"
        entry.status = response.status
        head = MessageHead(f"HTTP/1.1 {response.status} Scripted", list(fields.items()))
        self._client.sock.sendall(head.encode() + content)
        entry.answer_bytes += len(content)
        return not unread

    def _relay(
        self,
        upstream: Stream,
        head: MessageHead,
        entry: ProxiedExchange,
        action: Action,
        draw: random.Random,
    ) -> bool:
        """Pass the upstream's answer on, as far as the action lets it.

        True if both connections can be used again.
        """
        if action.stall_at == "answer":
            self._stall(action.stall_seconds)
        headers = head.headers()
        bodiless = entry.method == "HEAD" or head.status in (204, 304)
        framed = bodiless or "content-length" in headers or "transfer-encoding" in headers
        body: Iterator[bytes] = iter(()) if bodiless else upstream.body(headers, to_end=True)
        if action.lose_answer:
            for _ in body:
                pass
            raise _Reset
        if action.edit is not None or action.flip_answer or action.cut_fraction is not None:
            head, body = _edited(head, body, action, bodiless=bodiless)
        in_step = framed and "close" not in headers.get("connection", "")
        passed = head.without(HOP_HEADERS)
        passed = passed if in_step else passed.closing()
        entry.status = passed.status
        self._client.sock.sendall(passed.encode())
        if not bodiless:
            self._send_answer_body(body, passed.headers(), entry, action, draw)
        return in_step

    def _send_answer_body(
        self,
        body: Iterator[bytes],
        headers: dict[str, str],
        entry: ProxiedExchange,
        action: Action,
        draw: random.Random,
    ) -> None:
        length = int(headers.get("content-length", "0"))
        chunked = "transfer-encoding" in headers
        if action.flip_answer:
            body = _flipped(body, action, length, draw)
        end = None if action.cut_fraction is None else int(length * action.cut_fraction)
        half = length // 2
        if action.stall_at == "body":
            body = _split(body, half)
        pace = _Pace(action.bytes_per_second, self._script.closing)
        for block in body:
            passed = block if end is None else block[: end - entry.answer_bytes]
            pace.wait_for(len(passed))
            self._client.sock.sendall(chunk(passed) if chunked else passed)
            entry.answer_bytes += len(passed)
            if action.stall_at == "body" and entry.answer_bytes == half:
                self._stall(action.stall_seconds)
            if end is not None and entry.answer_bytes >= end:
                raise MalformedStream("cut as the test asked")
        if chunked:
            self._client.sock.sendall(chunk(b""))

    def _stall(self, seconds: float) -> None:
        """Wait, unless the client gives up or the proxy is closed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._script.closing.is_set():
            if self._client.pending or not self._client.speaks(min(left, LOOK_SECONDS)):
                continue
            if not self._client.sock.recv(1, socket.MSG_PEEK):
                raise MalformedStream("the client gave up")
            self._script.closing.wait(min(left, LOOK_SECONDS))


class _Reset(Exception):
    """The client is to see a reset."""


_LINGER_NOT = struct.pack("ii", 1, 0)
"""For SO_LINGER: close() sends RST."""


@dataclass(slots=True)
class _Pace:
    """Lets no more than `bytes_per_second` pass. None: never waits."""

    bytes_per_second: float | None
    closing: threading.Event
    started: float = field(default_factory=time.monotonic)
    passed_bytes: int = 0

    def wait_for(self, size: int) -> None:
        """Wait until this many more bytes may have arrived."""
        self.passed_bytes += size
        if self.bytes_per_second is not None:
            due = self.started + self.passed_bytes / self.bytes_per_second
            self.closing.wait(max(0.0, due - time.monotonic()))


def _sent(upstream: Stream, data: bytes) -> bool:
    """False where the upstream has hung up: it may have said why."""
    try:
        upstream.sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def _counted(blocks: Iterable[bytes], entry: ProxiedExchange) -> Iterator[bytes]:
    for block in blocks:
        entry.request_bytes += len(block)
        yield block


def _flipped(
    blocks: Iterable[bytes], action: Action, length: int, draw: random.Random
) -> Iterator[bytes]:
    """The blocks of a body of `length` bytes, with one bit of it flipped."""
    drawn = draw.randrange(max(1, length))
    offset = drawn if action.flip_offset is None else action.flip_offset
    bit = 1 << draw.randrange(8)
    passed = 0
    for block in blocks:
        if passed <= offset < passed + len(block):
            damaged = bytearray(block)
            damaged[offset - passed] ^= bit
            yield bytes(damaged)
        else:
            yield block
        passed += len(block)


def _split(blocks: Iterable[bytes], offset: int) -> Iterator[bytes]:
    """The blocks, one of which ends at `offset`."""
    left = offset
    for block in blocks:
        yield from filter(None, (block[: max(0, left)], block[max(0, left) :]))
        left -= len(block)


def _edited(
    head: MessageHead, blocks: Iterator[bytes], action: Action, *, bodiless: bool
) -> tuple[MessageHead, Iterator[bytes]]:
    """The answer with a body of known length, changed as the action says."""
    body = b"".join(blocks)
    if len(body) > EDITED_BYTES_MAX:
        raise ValueError("a body too long to be changed")
    status, headers = head.status, head.headers()
    if action.edit is not None:
        status, headers, body = action.edit(status, headers, body)
    headers.pop("transfer-encoding", None)
    if not bodiless:
        headers["content-length"] = str(len(body))
    return MessageHead(f"HTTP/1.1 {status} Passed", list(headers.items())), iter((body,))
