"""A store that is far away: https on loopback, each byte late by a one-way delay, each turn logged.

    with far_store(azurite.process.endpoint, certificate, one_way_seconds=0.1) as source: ...
    chain = longest_chain([*source.log(), *target.log()])

A client waits as on a real path: a new connection costs one round trip, TLS 1.3 another, and each
request one more. A turn is what a client says and what it is answered; a request that waits for
`100 Continue` takes two. Of two turns, one may depend on the other if it began after the other had
ended. The longest chain of such turns is how many round trips were made in series; at a long delay
few turns follow each other by chance.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from noria.benchmarks.null.certificates import ServerCertificate

READ_BYTES = 64 * 1024
CONNECT_TRIPS = 2
"""TCP, then TLS 1.3."""
HANG_UP_SECONDS = 0.1
SLACK_SECONDS = 0.002
"""What ended so little after the start of another counts as ended before."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """One wait of a client. Times are the client's: those of the event loop's clock."""

    what: str
    """The request line; "connect" for a new connection; "body" after `100 Continue`."""
    store: str
    connection: int
    start: float
    answered: float | None = None
    """When the first byte of the answer has come. None: there was none."""
    end: float | None = None
    """When its last byte has come."""
    trips: int = 1


@dataclass(slots=True, kw_only=True)
class FarStore:
    """Where the store is reached, and what was said to it."""

    name: str
    endpoint: str
    """https://127.0.0.1:PORT; no slash at its end."""
    one_way_seconds: float
    """May be raised or lowered while the store is used."""
    turns: list[Turn] = field(default_factory=list)

    def log(self) -> list[Turn]:
        """All turns that were answered, in the order in which they began."""
        return sorted(
            (turn for turn in self.turns if turn.answered is not None), key=lambda turn: turn.start
        )


@contextlib.contextmanager
def far_store(
    upstream: str, certificate: ServerCertificate, *, one_way_seconds: float, name: str = "store"
) -> Iterator[FarStore]:
    """Serve the http endpoint `upstream` over https, far away, while the block runs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)
    store = FarStore(name=name, endpoint="", one_way_seconds=one_way_seconds)
    road = _Road(store, upstream, context)
    road.thread.start()
    road.ready.wait()
    try:
        yield store
    finally:
        road.loop.call_soon_threadsafe(road.stop.set)
        road.thread.join()


def longest_chain(turns: Iterable[Turn], *, to: Turn | None = None) -> list[Turn]:
    """The most round trips that were made one after the other, of those that end with `to`."""
    ended = sorted(
        [turn for turn in turns if turn.answered is not None], key=lambda turn: turn.answered or 0.0
    )
    chains: list[list[Turn]] = []
    for number, turn in enumerate(ended):
        before = [
            chains[earlier]
            for earlier in range(number)
            if (ended[earlier].answered or 0.0) <= turn.start + SLACK_SECONDS
        ]
        chains.append([*max(before, key=trips, default=[]), turn])
    return max((chain for chain in chains if to is None or chain[-1] is to), key=trips, default=[])


def trips(chain: Iterable[Turn]) -> int:
    """How many round trips a chain takes."""
    return sum(turn.trips for turn in chain)


class _Road:
    """The event loop of one far store, on a thread of its own."""

    def __init__(self, store: FarStore, upstream: str, context: ssl.SSLContext) -> None:
        url = urlsplit(upstream)
        self._store = store
        self._upstream = (url.hostname, url.port)
        self._context = context
        self._accepted: dict[int, float] = {}
        """When a connection was accepted, by the local port of its way to the TLS end."""
        self._writers: list[asyncio.StreamWriter] = []
        """Of all connections without TLS; those with it end when these do."""
        self._connections = 0
        self.ready = threading.Event()
        self.stop = asyncio.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=f"road-{store.name}")

    @property
    def _delay(self) -> float:
        return self._store.one_way_seconds

    def _run(self) -> None:
        with contextlib.closing(self.loop):
            self.loop.run_until_complete(self._serve())
            self.loop.run_until_complete(self._hang_up())

    async def _serve(self) -> None:
        end = await asyncio.start_server(self._terminate, "127.0.0.1", 0, ssl=self._context)
        self._end_port = end.sockets[0].getsockname()[1]
        road = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self._store.endpoint = f"https://127.0.0.1:{road.sockets[0].getsockname()[1]}"
        self.ready.set()
        await self.stop.wait()
        road.close()
        end.close()

    async def _hang_up(self) -> None:
        """Close the connections that were open when the stop came."""
        left = asyncio.all_tasks(self.loop) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(HANG_UP_SECONDS)  # asyncio closes the sockets a turn of its loop later

    # -- the road: bytes, late ---------------------------------------------------------------------

    async def _carry(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        accepted = self.loop.time()
        end, onward = await asyncio.open_connection("127.0.0.1", self._end_port)
        self._writers += [answer, onward]
        self._accepted[onward.get_extra_info("sockname")[1]] = accepted
        # A client could send nothing before its SYN was answered.
        await asyncio.gather(
            self._delayed(client, onward, accepted + 2 * self._delay),
            self._delayed(end, answer, 0.0),
        )

    async def _delayed(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent_after: float
    ) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(due - self.loop.time())
                if not piece:
                    writer.close()
                    return
                writer.write(piece)

        delivering = asyncio.ensure_future(deliver())
        piece = b"-"
        while piece:
            try:
                piece = await reader.read(READ_BYTES)
            except OSError:
                piece = b""
            pieces.put_nowait((max(self.loop.time(), sent_after) + self._delay, piece))
        with contextlib.suppress(OSError):
            await delivering

    # -- its far end: TLS, and the log -------------------------------------------------------------

    async def _terminate(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        accepted = self._accepted.pop(answer.get_extra_info("peername")[1])
        self._connections += 1
        log = _ConnectionLog(self._store, self._connections, accepted)
        upstream, onward = await asyncio.open_connection(*self._upstream)
        self._writers.append(onward)
        with contextlib.suppress(OSError, ssl.SSLError):
            await asyncio.gather(
                self._hand_on(client, onward, log.said),
                self._hand_on(upstream, answer, log.answered),
            )

    async def _hand_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        log: Callable[[bytes, float], None],
    ) -> None:
        try:
            while piece := await reader.read(READ_BYTES):
                log(piece, self.loop.time())
                writer.write(piece)
                await writer.drain()
        finally:
            writer.close()


class _ConnectionLog:
    def __init__(self, store: FarStore, number: int, accepted: float) -> None:
        self._store = store
        self._number = number
        self._accepted = accepted
        self._turn: Turn | None = None

    def said(self, piece: bytes, now: float) -> None:
        if self._turn is not None and self._turn.answered is None:
            return  # more of the same request
        start = now - self._store.one_way_seconds
        if self._turn is None:
            connect = self._begin("connect", self._accepted)
            connect.answered = connect.end = start
            connect.trips = CONNECT_TRIPS
        line = piece.partition(b"\r\n")[0]
        self._turn = self._begin(line.decode("latin1") if b" HTTP/" in line else "body", start)

    def answered(self, piece: bytes, now: float) -> None:
        if self._turn is not None:
            self._turn.end = now + self._store.one_way_seconds
            self._turn.answered = self._turn.answered or self._turn.end

    def _begin(self, what: str, start: float) -> Turn:
        turn = Turn(what=what, store=self._store.name, connection=self._number, start=start)
        self._store.turns.append(turn)
        return turn
