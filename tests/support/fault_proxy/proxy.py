"""A reverse proxy that breaks what it is told to break, and remembers everything it saw.

    with run_fault_proxy(seaweedfs.endpoint) as proxy:
        proxy.add(Fault(match=on(Operation.PUT), action=lose_answer()))
        ...                                                    # a client of proxy.endpoint
        assert proxy.count(Operation.PUT) == 1

It speaks HTTP/1.1 between a client and one real server on loopback: connections are kept, bodies
are streamed, `Expect: 100-continue` is passed on, and the Host header stays as the client wrote it,
so that signatures hold. Rules may be changed at any time. What it damages by chance, it draws from
its seed, a fault and the fault's hit: the same test damages the same bit.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

from tests.support.fault_proxy.exchange import Conversation, ProxiedExchange, Resign
from tests.support.fault_proxy.http_streams import IO_SECONDS
from tests.support.fault_proxy.rules import Action, Fault, Operation, ProxiedRequest

CONNECTIONS_MAX = 128
SETTLE_SECONDS = 10.0
"""How long `log` waits for exchanges that are under way."""
_FORWARD = Action(name="forward")


class FaultProxy:
    """Made by run_fault_proxy(). Every method may be called from any thread."""

    def __init__(self, upstream: str, *, seed: int, resign: Resign | None) -> None:
        address = urlsplit(upstream)
        if address.hostname not in ("127.0.0.1", "localhost") or address.port is None:
            raise ValueError("the upstream is a server on this machine, with its port")
        self.upstream = (address.hostname, address.port)
        self.seed = seed
        self.resign = resign
        self.closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS_MAX)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}{address.path}"
        self._faults: list[Fault] = []
        self._log: list[ProxiedExchange] = []
        self._under_way = 0
        self._changed = threading.Condition()
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._conversations: dict[Conversation, threading.Thread] = {}
        self._accepting = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)
        self._accepting.start()

    # -- rules -------------------------------------------------------------------------------------

    def add(self, *faults: Fault) -> None:
        """The first rule that claims a request decides what happens to it."""
        with self._changed:
            self._faults.extend(faults)

    def remove(self, fault: Fault) -> None:
        with self._changed:
            self._faults.remove(fault)

    def clear(self) -> None:
        with self._changed:
            self._faults.clear()

    # -- evidence ----------------------------------------------------------------------------------

    @property
    def log(self) -> list[ProxiedExchange]:
        """All exchanges so far, in the order in which they began, once none is under way."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._under_way == 0, SETTLE_SECONDS):
                raise TimeoutError("an exchange does not end")
            return list(self._log)

    def seen(self, *operations: Operation, name: str = "") -> list[ProxiedExchange]:
        """Exchanges of one of the operations (none: any) whose path ends in `name`."""
        return [
            exchange
            for exchange in self.log
            if (not operations or exchange.operation in operations)
            and exchange.request.path.endswith(name)
        ]

    def count(self, *operations: Operation, name: str = "") -> int:
        return len(self.seen(*operations, name=name))

    def taken(self, action: str) -> int:
        """How often the action of that name was taken."""
        return sum(exchange.fault == action for exchange in self.log)

    def methods(self) -> set[str]:
        return {exchange.method for exchange in self.log}

    def written_bytes_so_far(self) -> int:
        """As written_bytes(), while requests are under way: what has ended is counted."""
        with self._changed:
            return sum(
                exchange.request_bytes
                for exchange in self._log
                if exchange.operation in (Operation.PUT, Operation.PART)
            )

    def written_bytes(self) -> int:
        """Bodies of objects and parts as received from the client, whatever became of them."""
        writes = self.seen(Operation.PUT, Operation.PART)
        return sum(exchange.request_bytes for exchange in writes)

    # -- connections -------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the port and every connection, and wait for their threads."""
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._hang_up()
        self._accepting.join(IO_SECONDS)
        self._listener.close()
        for thread in self._hang_up():
            thread.join(IO_SECONDS)

    def _hang_up(self) -> list[threading.Thread]:
        with self._changed:
            conversations = dict(self._conversations)
        for conversation in conversations:
            conversation.hang_up()
        return list(conversations.values())

    def _accept(self) -> None:
        while not self.closing.is_set():
            self._room.acquire()
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            conversation = Conversation(self, sock)
            thread = threading.Thread(target=self._converse, args=(conversation,), daemon=True)
            with self._changed:
                self._conversations[conversation] = thread
            thread.start()

    def _converse(self, conversation: Conversation) -> None:
        try:
            conversation.run()
        finally:
            with self._changed:
                self._conversations.pop(conversation, None)
            self._room.release()

    @contextlib.contextmanager
    def exchange(
        self, request: ProxiedRequest
    ) -> Iterator[tuple[ProxiedExchange, Action, random.Random]]:
        """Enter a request in the log; says what to do with it, and gives chance its seed."""
        with self._changed:
            action, place = self.chosen(request)
            name = None if action is None else action.name
            entry = ProxiedExchange(request=request, fault=name)
            self._log.append(entry)
            self._under_way += 1
        try:
            yield entry, action or _FORWARD, random.Random(f"{self.seed} {place}")
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def chosen(self, request: ProxiedRequest) -> tuple[Action | None, str]:
        """What happens to a request, if anything, and what draws its chance; under the lock."""
        fault = next((fault for fault in self._faults if fault.claims(request)), None)
        if fault is None:
            return None, ""
        return fault.action, f"{self._faults.index(fault)} {fault.hits}"


@contextlib.contextmanager
def run_fault_proxy(
    upstream: str, *, seed: int = 0, resign: Resign | None = None
) -> Iterator[FaultProxy]:
    """A proxy in front of `upstream` (http://127.0.0.1:PORT/PATH), on a port of its own.

    `resign` is asked for the headers of a request that the proxy itself changed; None where the
    upstream's signatures cover no headers.
    """
    proxy = FaultProxy(upstream, seed=seed, resign=resign)
    try:
        yield proxy
    finally:
        proxy.close()
