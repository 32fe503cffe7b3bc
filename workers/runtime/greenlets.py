"""Hundreds of transfers in flight on one thread: a fiber that waits lets the others run.

The code that moves an object is written once, as if it blocked. On a stream thread it does block.
On a fiber, the same calls switch to the loop of the fiber's thread; the loop runs other fibers and
returns to this one when its socket is ready. So code on a fiber must wait through this file alone
(Readiness, Waiter, pause, apart). Any other wait holds up all fibers of the thread. One that never
has to wait gives way now and then (give_way).

The greenlet library only switches stacks, in half a microsecond; waking a thread takes about
thirty. This file decides which fiber runs, and when.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from greenlet import getcurrent, greenlet

from noria.workers.runtime.places import Places

SCAN_SECONDS: Final = 0.25
"""A timeout of a wait is noticed at most this late."""
PAUSE_SECONDS: Final = 0.1
"""A pause that should end early notices it at most this late."""

_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
"""Edge-triggered, and registered once for each socket: a wait then costs no system call."""

Work = Callable[[], None]
_T = TypeVar("_T")


class WorkQueue:
    """Work in the order it came, what is `first` before all that is not. Any thread may add."""

    def __init__(self) -> None:
        self._first: deque[Work] = deque()
        self._others: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._first) + len(self._others)

    def add(self, work: Work, *, first: bool) -> None:
        (self._first if first else self._others).append(work)

    def popleft(self) -> Work:
        return (self._first or self._others).popleft()


class FiberPool:
    """Runs work on at most `fibers` fibers of one thread, in the order it came.

    No more is begun while as much runs as there are `places`: at first one for each fiber.
    """

    def __init__(self, fibers: int, name: str = "fibers") -> None:
        self.places = Places(fibers)
        self._work = WorkQueue()
        self._woken: deque[Fiber] = deque()
        self._idle: list[Fiber] = []
        self._fibers_max = fibers
        self._fibers = 0
        self._waiting: dict[int, Fiber] = {}
        self._pausing: list[tuple[float, int, Fiber]] = []
        self._serial = itertools.count()
        self._next_scan = 0.0
        self._epoll = select.epoll()
        self._wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup_fd, select.EPOLLIN)
        self._asleep = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work, *, first: bool = False) -> None:
        """Queue work, from any thread; what is `first` goes before all that is not.

        `work` must not raise: that would end the pool.
        """
        self._work.add(work, first=first)
        self._wake_loop()

    @property
    def queued(self) -> int:
        return len(self._work)

    def set_limit(self, places: int) -> None:
        """Set how much may run at a time. What runs already is not interrupted."""
        self.places.limit = max(1, min(places, self._fibers_max))
        self._wake_loop()

    def close(self) -> None:
        """Wait until all work is done, then end the thread."""
        self._closed = True
        self._wake_loop()
        self._thread.join()
        self._epoll.close()
        os.close(self._wakeup_fd)

    # -- called by fibers --------------------------------------------------------------------------

    def watch(self, descriptor: int) -> None:
        """Register a socket once, before the first wait for it; closing the socket ends it."""
        self._epoll.register(descriptor, _EDGES)

    def wait_for(self, fiber: Fiber, descriptor: int, seconds: float) -> bool:
        """Wait until something happens on the socket, which may not be what the caller needs.

        Returns False after a timeout.
        """
        fiber.deadline = time.monotonic() + seconds
        self._waiting[descriptor] = fiber
        return self._loop.switch() is True

    def pause(self, fiber: Fiber, seconds: float) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._pausing, (due, next(self._serial), fiber))
        self._loop.switch()

    def step_aside(self) -> None:
        """Wait until wake(), which may have been called already."""
        self._loop.switch()

    def wake(self, fiber: Fiber) -> None:
        """End a fiber's step_aside(), from any thread, also if it has not begun.

        Call it once for each step_aside().
        """
        self._woken.append(fiber)
        self._wake_loop()

    def give_way(self, fiber: Fiber) -> None:
        """Let every other fiber that is ready run first."""
        self._woken.append(fiber)
        self._loop.switch()

    def next_work(self, fiber: Fiber) -> Work | None:
        """Wait for the next work of a fiber and return it; None if the fiber must end."""
        while not (self._work and self.places.free):
            if self._closed and not self._work:
                self._fibers -= 1
                return None
            self._idle.append(fiber)
            self._loop.switch()
        return self._work.popleft()

    # -- the loop ----------------------------------------------------------------------------------

    def _run(self) -> None:
        self._loop = getcurrent()
        while True:
            self._run_ready()
            if self._closed and self._fibers == len(self._idle) and not self._work:
                break
            self._sleep()
        for fiber in list(self._idle):
            fiber.switch()

    def _run_ready(self) -> None:
        while self._may_begin():
            if not self._idle:
                self._fibers += 1
                Fiber(self).switch()
            else:
                self._idle.pop().switch()
        for _ in range(len(self._woken)):  # those that give way come again
            self._woken.popleft().switch()
        now = time.monotonic()
        while self._pausing and self._pausing[0][0] <= now:
            heapq.heappop(self._pausing)[-1].switch()
        if now >= self._next_scan:
            self._next_scan = now + SCAN_SECONDS
            self._end_long_waits(now)

    def _sleep(self) -> None:
        """Sleep until a socket is ready, the wake-up fd is written, or the next timeout is due."""
        self._asleep = True
        # Work that was added before this flag was set did not write the wake-up fd, so the sleep
        # is computed only now.
        for descriptor, _ in self._epoll.poll(self._sleep_seconds()):
            if descriptor == self._wakeup_fd:
                os.eventfd_read(self._wakeup_fd)
                continue
            fiber = self._waiting.pop(descriptor, None)
            if fiber is not None:
                self._asleep = False
                fiber.switch(True)
        self._asleep = False

    def _sleep_seconds(self) -> float:
        """Return how long to sleep at most; -1: without limit."""
        if self._woken or self._may_begin():
            return 0.0
        due = self._next_scan if self._waiting or self._closed else float("inf")
        if self._pausing:
            due = min(due, self._pausing[0][0])
        return -1.0 if due == float("inf") else max(0.0, due - time.monotonic())

    def _may_begin(self) -> bool:
        has_fiber = bool(self._idle) or self._fibers < self._fibers_max
        return bool(self._work) and has_fiber and self.places.free > 0

    def _end_long_waits(self, now: float) -> None:
        late = [place for place, fiber in self._waiting.items() if fiber.deadline <= now]
        for place in late:
            fiber = self._waiting.pop(place, None)
            if fiber is not None:
                fiber.switch(False)

    def _wake_loop(self) -> None:
        if self._asleep:
            os.eventfd_write(self._wakeup_fd, 1)


class Fiber(greenlet):
    """Does one piece of work after another."""

    deadline = 0.0

    def __init__(self, pool: FiberPool) -> None:
        super().__init__()
        self.pool = pool

    def run(self) -> None:
        places = self.pool.places
        while (work := self.pool.next_work(self)) is not None:
            places.enter()
            work()
            places.leave()


def current_fiber() -> Fiber | None:
    """Return the calling fiber; None if the caller is a plain thread."""
    fiber = getcurrent()
    return fiber if isinstance(fiber, Fiber) else None


def current_pool() -> FiberPool | None:
    """Return the pool of the calling fiber; None if the caller is a plain thread."""
    fiber = getcurrent()
    return fiber.pool if isinstance(fiber, Fiber) else None


class Readiness:
    """Waits for one socket: on a thread, or on fibers of the pool where it was made."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._mask = select.POLLIN
        pool = current_pool()
        if pool is not None:
            pool.watch(self._descriptor)

    def is_readable(self) -> bool:
        """Return at once whether the socket is readable."""
        self._watch_for(select.POLLIN)
        return bool(self._poll.poll(0))

    def await_reading(self, seconds: float) -> None:
        """Wait until the socket may be readable; it may return early. Raises TimeoutError."""
        self._await(select.POLLIN, seconds)

    def await_writing(self, seconds: float) -> None:
        """Wait until the socket may be writable, as await_reading does."""
        self._await(select.POLLOUT, seconds)

    def _await(self, mask: int, seconds: float) -> None:
        fiber = current_fiber()
        if fiber is not None:
            ready = fiber.pool.wait_for(fiber, self._descriptor, seconds)
        else:
            self._watch_for(mask)
            ready = bool(self._poll.poll(seconds * 1000))
        if not ready:
            raise TimeoutError(f"no progress within {seconds:g} s")

    def _watch_for(self, mask: int) -> None:
        if self._mask != mask:
            self._poll.modify(self._descriptor, mask)
            self._mask = mask


class Waiter:
    """One wait of one thread or fiber, ended by one wake-up."""

    def __init__(self) -> None:
        self._fiber = current_fiber()
        self._lock = None if self._fiber is not None else threading.Lock()
        if self._lock is not None:
            self._lock.acquire()

    def wait(self) -> None:
        """Wait for wake(). Call once, on the thread or fiber that made the Waiter."""
        if self._lock is not None:
            self._lock.acquire()
        elif self._fiber is not None:
            self._fiber.pool.step_aside()

    def wake(self) -> None:
        """End the wait. Call once, from any thread, before or after wait()."""
        if self._lock is not None:
            self._lock.release()
        elif self._fiber is not None:
            self._fiber.pool.wake(self._fiber)


def pause(seconds: float, stopping: threading.Event) -> None:
    """Wait for `seconds`, or until `stopping` is set; a fiber notices that PAUSE_SECONDS late."""
    fiber = current_fiber()
    if fiber is None:
        stopping.wait(seconds)
        return
    end = time.monotonic() + seconds
    while not stopping.is_set() and (left := end - time.monotonic()) > 0:
        fiber.pool.pause(fiber, min(left, PAUSE_SECONDS))


def give_way() -> None:
    """Let the other fibers of this thread run that are ready; on a plain thread, do nothing."""
    fiber = current_fiber()
    if fiber is not None:
        fiber.pool.give_way(fiber)


@contextmanager
def without_place() -> Iterator[None]:
    """Leave one's place in the pool to other work for the block; a plain thread keeps it.

    For a wait that may be long and says nothing about other work: a store that refuses one prefix.
    """
    fiber = current_fiber()
    if fiber is None:
        yield
        return
    fiber.pool.places.step_out()
    try:
        yield
    finally:
        fiber.pool.places.step_in()


def apart(call: Callable[[], _T]) -> _T:
    """Return what `call` returns, which may block: on a fiber, it runs on a thread of its own.

    For a disk or a name server. What it raises is raised here.
    """
    if current_fiber() is None:
        return call()
    waiter, results = Waiter(), list[tuple[_T | None, BaseException | None]]()

    def run() -> None:
        try:
            results.append((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised on the fiber
            results.append((None, error))
        waiter.wake()

    threading.Thread(target=run, name="apart", daemon=True).start()
    waiter.wait()
    ((result, error),) = results
    if error is not None:
        raise error
    return result  # type: ignore[return-value]  # what call() returned
