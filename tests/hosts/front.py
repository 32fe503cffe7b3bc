"""What stands before a store: passes bytes on, at a rate, and notes who asked for what, and when.

    with StoreFront(network.listen("stores", 8333), upstream=("127.0.0.1", port)) as front:
        front.rates["10.77.0.2"] = 3e6
        ...
        front.written_bytes("10.77.0.2")

Requests are read off the stream as they pass, and nothing is changed: what a client is told comes
from the store. A request counts from the moment its first byte has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

READ_BYTES = 64 * 1024
HANG_UP_SECONDS = 0.1
WRITES = frozenset({"PUT", "POST", "DELETE"})


@dataclass(slots=True, kw_only=True)
class FrontRequest:
    """Times are of this machine's monotonic clock."""

    address: str
    """Of the client."""
    connected: float
    """When its connection was accepted."""
    begun: float
    method: str
    path: str
    """With the query."""
    body_bytes: int = 0
    """Of the body, framing left out, as far as it has come."""
    last: float = 0.0
    """When the last byte of it came."""

    @property
    def writes(self) -> bool:
        return self.method in WRITES

    def __str__(self) -> str:
        return f"{self.method} {self.path} of {self.address}"


@dataclass(slots=True)
class RequestReader:
    """One client's stream of requests, piece by piece."""

    note: Callable[[str, str, float], FrontRequest]
    """Gets method, path and time of a request that begins."""
    _pending: bytes = b""
    _begun: float | None = None
    _request: FrontRequest | None = None
    _state: str = "head"
    _left: int = 0

    def feed(self, piece: bytes, now: float) -> None:
        """The next bytes of the stream. Raises ValueError if they are not HTTP/1.1."""
        self._pending += piece
        while self._pending and getattr(self, f"_read_{self._state}")(now):
            pass

    def _read_head(self, now: float) -> bool:
        self._begun = self._begun or now
        head, end, rest = self._pending.partition(b"\r\n\r\n")
        if not end:
            return False
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self._request = self.note(method, path, self._begun)
        self._pending, self._begun = rest, None
        if "chunked" in fields.get("transfer-encoding", ""):
            self._state = "size"
        elif left := int(fields.get("content-length", "0")):
            self._state, self._left = "body", left
        return True

    def _read_body(self, now: float) -> bool:
        taken = min(len(self._pending), self._left)
        assert self._request is not None, "a body has its head"
        self._request.body_bytes += taken
        self._request.last = now
        self._pending = self._pending[taken:]
        self._left -= taken
        if not self._left:
            self._state = "head"
        return True

    def _read_chunk(self, now: float) -> bool:
        self._read_body(now)
        if not self._left:
            self._state = "gap"
        return True

    def _read_size(self, now: float) -> bool:
        line, end, rest = self._pending.partition(b"\r\n")
        if not end:
            return False
        self._pending, self._left = rest, int(line.split(b";")[0], 16)
        self._state = "chunk" if self._left else "trailer"
        return True

    def _read_gap(self, now: float) -> bool:
        if len(self._pending) < 2:
            return False
        self._pending, self._state = self._pending[2:], "size"
        return True

    def _read_trailer(self, now: float) -> bool:
        line, end, rest = self._pending.partition(b"\r\n")
        if not end:
            return False
        self._pending = rest
        if not line:
            self._state = "head"
        return True


@dataclass(slots=True)
class _Toll:
    """When the next bytes of one host may pass, in one direction."""

    free: float = 0.0

    def wait_seconds(self, size: int, rate: float | None, now: float) -> float:
        if rate is None:
            self.free = now
            return 0.0
        self.free = max(self.free, now) + size / rate
        return self.free - now


class StoreFront:
    """One store's front, on a thread of its own. `requests` and `rates` may be used from others."""

    def __init__(self, listener: socket.socket, upstream: tuple[str, int]) -> None:
        self.requests: list[FrontRequest] = []
        self.rates: dict[str, float] = {}
        """Client's address -> bytes a second in each direction; others are not slowed."""
        self._listener = listener
        self._upstream = upstream
        self._tolls: defaultdict[tuple[str, str], _Toll] = defaultdict(_Toll)
        self._writers: list[asyncio.StreamWriter] = []
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)

    def __enter__(self) -> StoreFront:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def seen(self, *, since: float = 0.0, address: str | None = None) -> list[FrontRequest]:
        """Requests that began at `since` or later, of one client or of all."""
        return [
            request
            for request in list(self.requests)
            if request.begun >= since and address in (None, request.address)
        ]

    def written_bytes(self, address: str, *, since: float = 0.0) -> int:
        """Bytes of bodies that a host has sent."""
        return sum(each.body_bytes for each in self.seen(since=since, address=address))

    # -- the thread's own --------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve())
            self._loop.run_until_complete(self._hang_up())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, sock=self._listener)
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _hang_up(self) -> None:
        left = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for writer in self._writers:
            if not writer.transport.is_closing():
                writer.transport.abort()
        await asyncio.sleep(HANG_UP_SECONDS)  # asyncio closes the sockets a turn of its loop later

    async def _carry(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        address, connected = answer.get_extra_info("peername")[0], time.monotonic()

        def note(method: str, path: str, begun: float) -> FrontRequest:
            request = FrontRequest(
                address=address,
                connected=connected,
                begun=begun,
                method=method,
                path=path,
                last=begun,
            )
            self.requests.append(request)
            return request

        try:
            store, onward = await asyncio.open_connection(*self._upstream)
        except OSError:
            answer.transport.abort()
            return
        self._writers += [answer, onward]
        reader = RequestReader(note)
        await asyncio.gather(
            self._pass_on(client, onward, (address, "up"), reader.feed),
            self._pass_on(store, answer, (address, "down"), None),
        )

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: tuple[str, str],
        feed: Callable[[bytes, float], None] | None,
    ) -> None:
        """Until one side ends it; then both ends of this direction are closed."""
        with contextlib.suppress(OSError):
            while piece := await reader.read(READ_BYTES):
                now = time.monotonic()
                if feed is not None:
                    feed(piece, now)
                seconds = self._tolls[way].wait_seconds(len(piece), self.rates.get(way[0]), now)
                if seconds:
                    await asyncio.sleep(seconds)
                writer.write(piece)
                await writer.drain()
        writer.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fronts:
    """Those of both stores."""

    source: StoreFront
    target: StoreFront

    def slow_down(self, address: str, rate: float | None) -> None:
        """Bytes a second of a client at each store; None: as fast as it goes."""
        for front in (self.source, self.target):
            if rate is None:
                front.rates.pop(address, None)
            else:
                front.rates[address] = rate
