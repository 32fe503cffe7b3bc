"""One connection to a host, plain or TLS: bytes in and out of the caller's buffers.

Sockets never block. All waiting is done by `Readiness`, on a stream thread or on a fiber, for at
most `idle_seconds`. A host that trickles, a byte at a time, would never let that run out: so bytes
also have a least rate, over the seconds that were spent in waiting for them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from noria.workers.runtime.greenlets import Readiness, give_way

RECEIVE_BYTES: Final = 32 * 1024
"""Bytes to receive in one call while the length is unknown."""
SEND_BYTES: Final = 1024 * 1024
"""Bytes to send in one call."""
WAKE_BYTES: Final = 1024 * 1024
"""The kernel wakes us for no less than this (SO_RCVLOWAT, see socket(7)).

It is set while more than twice as much is still to come. A body then costs half the CPU. It also
keeps the receive window above 2 MiB.
"""
PIECE_BYTES: Final = 512 * 1024
"""Received bytes are passed on in pieces of at least this size.

They are still in the core's own cache then, and the cost of the calls is negligible.
"""
RATE_SECONDS: Final = 60.0
"""Waiting over which a rate is taken: long enough for a store that stops to think."""
LINGER_NOT: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: a connection that is closed is reset, and what was not acknowledged is dropped."""
RECORDS_BYTES: Final = 256 * 1024
"""TLS records received or sent in one system call.

The ssl module alone would need two system calls for each 16 KiB.
"""


class OnBytes(Protocol):
    """Gets the pieces of a body, in order."""

    def __call__(self, piece: memoryview, crc64nvme: int | None = None, /) -> None:
        """Take the next piece. `crc64nvme` is its checksum, if it has been computed anyway."""


OnSent: TypeAlias = Callable[[int], None]
"""Gets how many more bytes were handed to the network."""


class ProtocolError(Exception):
    """The response is not HTTP/1.1, or it ended early."""


class Connection:
    """A plain connection, for one exchange at a time."""

    def __init__(self, sock: socket.socket, readiness: Readiness, idle_seconds: float) -> None:
        self.sock = sock
        self.readiness = readiness
        self.idle_seconds = idle_seconds
        """Longest wait for the next byte, in both directions; TimeoutError after that."""
        self.least_rate = 0.0
        """Fewest bytes for each second of waiting, in both directions; 0 allows any number.

        Looked at once RATE_SECONDS have been waited, and again after as many more. TimeoutError if
        there were fewer. Time that we ourselves take does not count.
        """
        self._waited_seconds = 0.0
        self._moved_bytes = 0
        self.idle_since = 0.0
        self.encryption: str | None = None
        """TLS version and cipher, as in `TLSv1.3, TLS_AES_256_GCM_SHA384`. None: plain."""
        self.pending = b""
        """Bytes received but not yet taken."""
        self._waking_bytes = 1
        self._answer_is_due = False
        """A whole request was sent just now, without a wait: the response cannot be there yet."""

    def receive(self) -> None:
        """Wait for more bytes and add them to `pending`."""
        more = self._recv(RECEIVE_BYTES)
        if not more:
            raise ProtocolError("the host closed the connection")
        self.pending = self.pending + more if self.pending else more

    def take(self, size: int) -> bytes:
        """Take up to `size` pending bytes."""
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def fill(
        self, view: memoryview, on_bytes: OnBytes | None = None, *, more_bytes: int = 0
    ) -> None:
        """Read exactly len(view) bytes; `on_bytes` gets them in order, in pieces of `view`.

        `more_bytes` says how many bytes of the same body the caller reads right after this call.
        """
        early = self.take(len(view))
        view[: len(early)] = early
        filled, passed_on, size = len(early), 0, len(view)
        last = size + more_bytes
        patient = last - filled > 2 * WAKE_BYTES
        self._wake_at(WAKE_BYTES if patient else 1)
        while filled < size:
            count = self._recv_into(view[filled:])
            if count == 0:
                raise ProtocolError(f"the body ended {last - filled} bytes early")
            filled += count
            if patient and last - filled <= 2 * WAKE_BYTES:
                # Stop well before the last byte, because TLS may hold records back.
                self._wake_at(1)
                patient = False
            if on_bytes is not None and filled - passed_on >= PIECE_BYTES:
                on_bytes(view[passed_on:filled])
                passed_on = filled
                give_way()
        if on_bytes is not None and passed_on < size:
            on_bytes(view[passed_on:])

    def read_to_end(self) -> bytes:
        """Read the next piece of a body that ends with the connection; empty at its end."""
        return self._recv(RECEIVE_BYTES)

    def send(self, data: memoryview | bytes, on_sent: OnSent | None = None) -> None:
        """Send all of `data`; `on_sent` gets the number of bytes of each step, once it is done."""
        view = memoryview(data)
        while view:
            count = self._send_some(view)
            if on_sent is not None:
                on_sent(count)
            view = view[count:]
            if view:
                give_way()

    def request(self, request: bytes, on_sent: OnSent | None = None) -> None:
        """Send a whole request.

        The next read polls before it calls recv(): the response cannot be there yet, and this saves
        a system call.
        """
        self._answer_is_due = True
        self.send(request, on_sent)

    def begin_rate(self, least_rate: float) -> None:
        """Forget what was waited for and moved so far; ask for this rate from now on."""
        self.least_rate = least_rate
        self._waited_seconds, self._moved_bytes = 0.0, 0

    def is_stale(self) -> bool:
        """Return True if an idle connection is readable: the host closed it, or sent something."""
        return bool(self.pending) or self.readiness.is_readable()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close in the middle of an exchange; what the other end has not got yet is dropped.

        Otherwise the system would send it again and again, and a request that was given up could
        come through once the network is back.
        """
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self.close()

    def _recv(self, size: int) -> bytes:
        self._await_answer()
        while True:
            try:
                received = self.sock.recv(size)
            except BlockingIOError:
                self._wait(self.readiness.await_reading)
            else:
                self._moved_bytes += len(received)
                return received

    def _recv_into(self, view: memoryview) -> int:
        self._await_answer()
        while True:
            try:
                count = self.sock.recv_into(view)
            except BlockingIOError:
                self._wait(self.readiness.await_reading)
            else:
                self._moved_bytes += count
                return count

    def _send_some(self, view: memoryview) -> int:
        while True:
            try:
                count = self.sock.send(view[:SEND_BYTES])
            except BlockingIOError:
                # The response may be what wakes us; it would not be announced a second time.
                self._answer_is_due = False
                self._wait(self.readiness.await_writing)
            else:
                self._moved_bytes += count
                return count

    def _await_answer(self) -> None:
        if self._answer_is_due:
            self._answer_is_due = False
            self._wait(self.readiness.await_reading)

    def _wait(self, ready: Callable[[float], None]) -> None:
        """Wait until the socket is ready. Raises TimeoutError: idle for too long, or too slow."""
        began = time.monotonic()
        ready(self.idle_seconds)
        self._waited_seconds += time.monotonic() - began
        if self._waited_seconds < RATE_SECONDS:
            return
        if self._moved_bytes < self.least_rate * self._waited_seconds:
            raise TimeoutError(
                f"{self._moved_bytes} bytes came or went in {self._waited_seconds:.0f} s, "
                f"{self.least_rate:.0f} B/s are the least"
            )
        self.begin_rate(self.least_rate)

    def _wake_at(self, size: int) -> None:
        if size == self._waking_bytes:
            return
        self._waking_bytes = size
        with contextlib.suppress(OSError):  # a kernel without it only costs more CPU
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


class TlsConnection(Connection):
    """A connection over TLS. Many records are received or sent in one system call."""

    def __init__(
        self,
        sock: socket.socket,
        readiness: Readiness,
        idle_seconds: float,
        context: ssl.SSLContext,
        host: str,
    ) -> None:
        """Do the TLS handshake. Raises ssl.SSLError, or OSError as any exchange does."""
        super().__init__(sock, readiness, idle_seconds)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            else:
                self._flush()
                break
        cipher = self._tls.cipher()
        self.encryption = f"{self._tls.version()}, {cipher[0] if cipher else 'no cipher'}"

    def is_stale(self) -> bool:
        """As Connection.is_stale(), but session tickets, which TLS 1.3 sends unasked, are none."""
        if not super().is_stale():
            return False
        try:
            self._feed()
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):
            return True
        return True

    def _recv(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self._recv_into(memoryview(buffer))])

    def _recv_into(self, view: memoryview) -> int:
        """Read all records that have come; each read() takes one, of 16 KiB at most."""
        read, size, filled = self._tls.read, len(view), 0
        while filled < size:
            try:
                filled += read(size - filled, view[filled:])  # type: ignore[operator]  # an int, given a view
            except ssl.SSLWantReadError:
                if filled:
                    break
                self._flush()
                self._feed()
            except ssl.SSLZeroReturnError:
                break
        return filled

    def _send_some(self, view: memoryview) -> int:
        count = self._tls.write(view[:RECORDS_BYTES])
        self._flush()
        return count

    def _feed(self) -> None:
        """Receive records from the socket."""
        records = _scratch()
        count = super()._recv_into(records)
        if count == 0:
            self._incoming.write_eof()
        else:
            self._incoming.write(records[:count])

    def _flush(self) -> None:
        while self._outgoing.pending:
            view = memoryview(self._outgoing.read())
            while view:
                view = view[super()._send_some(view) :]


class _Scratch(threading.local):
    """A thread's memory for records on their way from a socket to the TLS layer."""

    def __init__(self) -> None:
        self.records = memoryview(bytearray(RECORDS_BYTES))


_SCRATCH: Final = _Scratch()


def _scratch() -> memoryview:
    """Return this thread's memory for records.

    One for each thread is enough, since no other fiber runs between filling and emptying it.
    """
    return _SCRATCH.records
