"""Hundreds of small requests in flight on one thread: who waits steps aside for the others.

What moves an object is written once, as if it blocked. On a stream thread it does block. On a
fiber, the same calls switch to the loop of the fiber's thread, which goes on with another fiber
and comes back when the socket is ready. So whatever waits on a fiber has to wait by means of this
file (Readiness, Waiter, pause), or it holds up all fibers of its thread.

greenlet switches stacks, in half a microsecond, where a thread takes some thirty to be woken; which
fiber runs, and when, is decided here.
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
from collections.abc import Callable
from typing import Final

from greenlet import getcurrent, greenlet

SCAN_SECONDS: Final = 0.25
"""How late a wait may be found to have lasted too long."""
PAUSE_SECONDS: Final = 0.1
"""How late a pause may notice that it should end early."""

_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
"""Edge-triggered and registered once for each socket: a wait then costs no system call."""

Work = Callable[[], None]


class FiberPool:
    """Runs work on at most `fibers` fibers of one thread, in the order it came."""

    def __init__(self, fibers: int, name: str = "fibers") -> None:
        self._work: deque[Work] = deque()
        self._woken: deque[Fiber] = deque()
        self._idle: list[Fiber] = []
        self._fibers_max = fibers
        self._fibers = 0
        self._waiting: dict[int, Fiber] = {}
        self._pausing: list[tuple[float, int, Fiber]] = []
        self._serial = itertools.count()
        self._next_scan = 0.0
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._asleep = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """From any thread. `work` keeps its exceptions to itself: they would end the pool."""
        self._work.append(work)
        self._ring()

    def close(self) -> None:
        """Wait until all work is done, then end the thread."""
        self._closed = True
        self._ring()
        self._thread.join()
        self._epoll.close()
        os.close(self._bell)

    # -- what fibers call --------------------------------------------------------------------------

    def watch(self, descriptor: int) -> None:
        """Once for each socket, before the first wait for it; its closing ends that."""
        self._epoll.register(descriptor, _EDGES)

    def wait_for(self, fiber: Fiber, descriptor: int, seconds: float) -> bool:
        """Step aside until something happened to the socket: perhaps not what was hoped for.
        False when it took too long."""
        fiber.deadline = time.monotonic() + seconds
        self._waiting[descriptor] = fiber
        return self._loop.switch() is True

    def pause(self, fiber: Fiber, seconds: float) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._pausing, (due, next(self._serial), fiber))
        self._loop.switch()

    def step_aside(self) -> None:
        """Until wake(), which may have been called already."""
        self._loop.switch()

    def wake(self, fiber: Fiber) -> None:
        """Let a fiber that stepped aside, or is about to, go on. From any thread; once for each
        step_aside()."""
        self._woken.append(fiber)
        self._ring()

    def next_work(self, fiber: Fiber) -> Work | None:
        """What a fiber does next; it steps aside while there is nothing. None: it is to end."""
        while not self._work:
            if self._closed:
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
        while self._work and (self._idle or self._fibers < self._fibers_max):
            if not self._idle:
                self._fibers += 1
                Fiber(self).switch()
            else:
                self._idle.pop().switch()
        while self._woken:
            self._woken.popleft().switch()
        now = time.monotonic()
        while self._pausing and self._pausing[0][0] <= now:
            heapq.heappop(self._pausing)[-1].switch()
        if now >= self._next_scan:
            self._next_scan = now + SCAN_SECONDS
            self._end_long_waits(now)

    def _sleep(self) -> None:
        """Until a socket is ready, the bell rings, or it is time for something."""
        self._asleep = True
        # What was added before we were seen to be asleep has rung no bell.
        for descriptor, _ in self._epoll.poll(self._sleep_seconds()):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
                continue
            fiber = self._waiting.pop(descriptor, None)
            if fiber is not None:
                self._asleep = False
                fiber.switch(True)
        self._asleep = False

    def _sleep_seconds(self) -> float:
        """-1: for ever."""
        room = self._idle or self._fibers < self._fibers_max
        if self._woken or (self._work and room):
            return 0.0
        due = self._next_scan if self._waiting or self._closed else float("inf")
        if self._pausing:
            due = min(due, self._pausing[0][0])
        return -1.0 if due == float("inf") else max(0.0, due - time.monotonic())

    def _end_long_waits(self, now: float) -> None:
        late = [place for place, fiber in self._waiting.items() if fiber.deadline <= now]
        for place in late:
            fiber = self._waiting.pop(place, None)
            if fiber is not None:
                fiber.switch(False)

    def _ring(self) -> None:
        if self._asleep:
            os.eventfd_write(self._bell, 1)


class Fiber(greenlet):
    """Does one piece of work after the other."""

    deadline = 0.0

    def __init__(self, pool: FiberPool) -> None:
        super().__init__()
        self.pool = pool

    def run(self) -> None:
        while (work := self.pool.next_work(self)) is not None:
            work()


def current_fiber() -> Fiber | None:
    """The fiber that calls; None on a thread of its own."""
    fiber = getcurrent()
    return fiber if isinstance(fiber, Fiber) else None


def current_pool() -> FiberPool | None:
    """The pool whose fiber calls; None on a thread of its own."""
    fiber = getcurrent()
    return fiber.pool if isinstance(fiber, Fiber) else None


class Readiness:
    """How one socket is waited for: by a thread, or by fibers of the pool where it was made."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._mask = select.POLLIN
        pool = current_pool()
        if pool is not None:
            pool.watch(self._descriptor)

    def is_readable(self) -> bool:
        """Now, without waiting."""
        self._ask(select.POLLIN)
        return bool(self._poll.poll(0))

    def await_reading(self, seconds: float) -> None:
        """Raises TimeoutError. May return early: try again."""
        self._await(select.POLLIN, seconds)

    def await_writing(self, seconds: float) -> None:
        """As await_reading."""
        self._await(select.POLLOUT, seconds)

    def _await(self, mask: int, seconds: float) -> None:
        fiber = current_fiber()
        if fiber is not None:
            ready = fiber.pool.wait_for(fiber, self._descriptor, seconds)
        else:
            self._ask(mask)
            ready = bool(self._poll.poll(seconds * 1000))
        if not ready:
            raise TimeoutError(f"nothing within {seconds:g} s")

    def _ask(self, mask: int) -> None:
        if self._mask != mask:
            self._poll.modify(self._descriptor, mask)
            self._mask = mask


class Waiter:
    """One wait of one thread or fiber, and the wake-up that ends it."""

    def __init__(self) -> None:
        self._fiber = current_fiber()
        self._lock = None if self._fiber is not None else threading.Lock()
        if self._lock is not None:
            self._lock.acquire()

    def wait(self) -> None:
        """Call once, from where the Waiter was made."""
        if self._lock is not None:
            self._lock.acquire()
        elif self._fiber is not None:
            self._fiber.pool.step_aside()

    def wake(self) -> None:
        """Call once, from anywhere, before or after wait()."""
        if self._lock is not None:
            self._lock.release()
        elif self._fiber is not None:
            self._fiber.pool.wake(self._fiber)


def pause(seconds: float, stopping: threading.Event) -> None:
    """Wait, though no longer than until `stopping` is set, or little longer."""
    fiber = current_fiber()
    if fiber is None:
        stopping.wait(seconds)
        return
    end = time.monotonic() + seconds
    while not stopping.is_set() and (left := end - time.monotonic()) > 0:
        fiber.pool.pause(fiber, min(left, PAUSE_SECONDS))
