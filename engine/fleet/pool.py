"""The workers of a run of many datasets: processes that stay warm, and go from one to the next.

A process serves one dataset at a time. Once it holds no lease of that one any more, it becomes a
worker of another, with the stores and credentials of that: a new process would take half a second
of CPU. What may be in flight is shared out for the whole run (budgets.py).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from noria.engine.cluster.child import Child
from noria.engine.cluster.local import HERE
from noria.engine.cluster.protocol import (
    START_FAILED,
    Build,
    ClusterEvent,
    Instruction,
    Lost,
    Reported,
    Started,
)
from noria.engine.fleet.fair_share import FairShare
from noria.engine.worker_spec import WorkerSpec
from noria.manifests.errors import NoriaError

if TYPE_CHECKING:
    from noria.manifests.model import WorkerReport

_MODULE: Final = "noria.engine.cluster.worker_process"
REPORT_SECONDS: Final = 1.0
"""How long a worker may wait for news before it reports."""
ANSWER_SECONDS: Final = 5.0
"""A worker that was let go of, and owes an answer for longer, is ended."""

Hears = Callable[[ClusterEvent], None]


class Wanting(Protocol):
    """A dataset's side of the pool. Called under the pool's lock: returns at once."""

    def take(self, process: WorkerProcess) -> None:
        """Here is a worker that was asked for: give it a spec by begin()."""

    def let_go(self) -> WorkerProcess | None:
        """Choose a worker to be handed back; None: there is none that could be."""


class WorkerPool:
    """At most `workers` processes, shared by the datasets that enter. Thread-safe."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.lock = threading.RLock()
        """Held for moments: whoever holds it sees no worker change hands."""
        self._share = FairShare(workers)
        self._datasets: dict[str, Wanting] = {}
        self._idle: list[WorkerProcess] = []
        self._processes: set[WorkerProcess] = set()
        self._is_closed = False
        # The kernel ends children with the thread that has started them: this one stays.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="starter")

    def enter(self, name: str, dataset: Wanting, *, priority: int, weight: float) -> None:
        """A dataset may ask for workers from now on."""
        with self.lock:
            self._datasets[name] = dataset
            self._share.enter(name, priority=priority, weight=weight)

    def leave(self, name: str) -> None:
        """A dataset asks for no more; what it has is handed back by release() or ends."""
        with self.lock:
            if self._datasets.pop(name, None) is not None:
                self._share.leave(name)
                self._hand_out()

    def ask(self, name: str) -> None:
        """One more worker, when its turn comes: take() is called then."""
        with self.lock:
            self._share.ask(name)
            self._hand_out()

    def withdraw(self, name: str) -> None:
        """One that was asked for is not wanted any more."""
        with self.lock:
            self._share.withdraw(name)

    def prioritize(self, name: str, priority: int) -> None:
        """A dataset has another priority: workers that others have more right to come back."""
        with self.lock:
            self._share.prioritize(name, priority)
            self._hand_out()

    def resize(self, workers: int) -> None:
        """At most so many processes from now on; one that is at work hands its leases back."""
        with self.lock:
            self.workers = workers
            self._share.resize(workers)
            self._end_surplus()
            self._hand_out()

    @property
    def is_idle(self) -> bool:
        """No process works for any dataset."""
        with self.lock:
            return len(self._idle) == len(self._processes)

    def look_again(self) -> None:
        """A worker has come up that could be taken back."""
        with self.lock:
            self._hand_out()

    def start_child(self) -> Child:
        """Start a process. Raises OSError if there is no room for one."""
        return self._starter.submit(Child, _MODULE).result()

    def back(self, process: WorkerProcess, *, is_alive: bool) -> None:
        """A process is free for another dataset, or has ended."""
        with self.lock:
            if process.owner is not None:
                self._share.give_back(process.owner, taken=process.is_taken)
                process.owner, process.is_taken = None, False
            if is_alive and not self._is_closed:
                self._idle.append(process)
            elif is_alive:
                process.end()
            else:
                self._processes.discard(process)
                self._idle = [each for each in self._idle if each is not process]
            self._end_surplus()
            self._hand_out()

    def close(self) -> None:
        """End all processes. A repeat does nothing."""
        with self.lock:
            self._is_closed = True
            processes = list(self._processes)
            for process in processes:
                process.kill()
        for process in processes:
            process.join()
        self._starter.shutdown()

    def _end_surplus(self) -> None:
        while self._idle and len(self._processes) > self.workers:
            process = self._idle.pop()
            self._processes.discard(process)
            process.end()

    def _hand_out(self) -> None:
        """Give what is free to whose turn it is; take back what others have more right to."""
        if self._is_closed:
            return
        while (name := self._share.grant()) is not None:
            process = self._idle.pop() if self._idle else WorkerProcess(self)
            process.owner = name
            self._processes.add(process)
            self._datasets[name].take(process)
        while (name := self._share.take_back()) is not None:
            taken = self._datasets[name].let_go() if name in self._datasets else None
            if taken is None:
                # It hands back what it has in a moment anyway.
                self._share.keep(name)
                return
            taken.is_taken = True


class WorkerProcess:
    """A process of the pool, and the thread that waits for it."""

    def __init__(self, pool: WorkerPool) -> None:
        self.owner: str | None = None
        """The dataset that it counts for."""
        self.is_taken = False
        """It was asked back."""
        self.holds_leases = False
        """As far as is known: by its last report, and by what it was told since."""
        self._pool = pool
        self._child: Child | None = None
        self._is_killed = False
        self._owes_answer = False
        """It was told something, and has not answered yet."""
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._attend, name="pool-worker", daemon=True)
        self._thread.start()

    def begin(self, spec: WorkerSpec, hears: Hears) -> None:
        """Be a worker of another dataset from now on; `hears` is called on another thread."""
        self.holds_leases = False
        self._orders.put(_Begin(spec, hears))

    def exchange(self, instructions: tuple[Instruction, ...], *, grants: bool) -> None:
        """Carry instructions, bring a report; `grants`: there are leases among them."""
        self.holds_leases = self.holds_leases or grants
        self._owes_answer = True
        self._orders.put(instructions)

    def release(self) -> None:
        """Be free for another dataset: at once, or after the answer that is due.

        One that holds leases, or does not answer in time, is ended instead.
        """
        if self.holds_leases:
            self.kill()
            return
        self._orders.put(_RELEASE)
        if self._owes_answer:
            timer = threading.Timer(ANSWER_SECONDS, self._end_if_late)
            timer.daemon = True
            timer.start()

    def kill(self) -> None:
        """End the process, whatever it does; nothing more is heard of it."""
        with self._pool.lock:
            self._is_killed = True
            child = self._child
        if child is not None:
            child.kill()
        self._orders.put(None)

    def end(self) -> None:
        """End the process, which nobody uses."""
        self._orders.put(None)

    def join(self) -> None:
        self._thread.join()

    def _end_if_late(self) -> None:
        if self._owes_answer:
            self.kill()

    def _attend(self) -> None:
        """Wait for the process, from its first word to its end."""
        hears: Hears = _to_nobody
        name, cause = "", START_FAILED
        child: Child | None = None
        error: NoriaError | None = None
        try:
            child = self._start()
            if child is None:
                return
            build: Build = child.channel.receive()
            error = build.refusal()
            while (order := self._orders.get()) is not None:
                if isinstance(order, _Begin):
                    name, hears = order.spec.name, order.hears
                    if error is None:
                        child.channel.send(order.spec)
                        error = child.channel.receive()
                    if error is not None:
                        hears(Lost(worker=name, cause=error.cause, error=error, host=HERE))
                        return
                    cause = "worker_lost"
                    hears(Started(worker=name, host=HERE, pid=child.pid))
                elif isinstance(order, tuple):
                    child.channel.send((order, REPORT_SECONDS))
                    report: WorkerReport = child.channel.receive()
                    self.holds_leases, self._owes_answer = bool(report.progress), False
                    hears(Reported(worker=name, report=report))
                elif self.holds_leases:
                    return
                else:
                    name, hears = "", _to_nobody
                    self._pool.back(self, is_alive=True)
        except (EOFError, OSError) as failed:
            if not self._is_killed:
                words = child.last_words() if child is not None else _no_room(failed)
                hears, name = self._heir(hears, name)
                hears(Lost(worker=name, cause=cause, last_words=words))
        finally:
            if child is not None:
                child.kill()
                child.wait()
            self._pool.back(self, is_alive=False)

    def _start(self) -> Child | None:
        """Start the process; None if it was killed before."""
        child = self._pool.start_child()
        with self._pool.lock:
            self._child = child
            if not self._is_killed:
                return child
        child.kill()
        child.wait()
        return None

    def _heir(self, hears: Hears, name: str) -> tuple[Hears, str]:
        """Who is to hear that it is lost: the dataset that it was to serve next, if any."""
        while not self._orders.empty():
            order = self._orders.get()
            if isinstance(order, _Begin):
                hears, name = order.hears, order.spec.name
        return hears, name


class _Begin:
    """The order to be a worker of another dataset."""

    def __init__(self, spec: WorkerSpec, hears: Hears) -> None:
        self.spec = spec
        self.hears = hears


class _Release:
    """The order to be free."""


_RELEASE: Final = _Release()
_Order = _Begin | _Release | tuple[Instruction, ...]


def _to_nobody(event: ClusterEvent) -> None:
    """Nobody uses the process."""


def _no_room(error: BaseException) -> str:
    words = error.strerror if isinstance(error, OSError) else None
    return f"this machine starts no more processes ({words})"
