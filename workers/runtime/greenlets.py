"""Hundreds of small requests in flight on one thread: a fiber that waits lets the others run.

The code that moves an object is written once, as if it blocked. On a stream thread it does block.
On a fiber, the same calls switch to the loop of the fiber's thread; the loop runs other fibers and
returns to this one when its socket is ready. So code on a fiber must wait through this file alone
(Readiness, Waiter, pause). Any other wait holds up all fibers of the thread.

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
from collections.abc import Callable
from typing import Final

from greenlet import getcurrent, greenlet

SCAN_SECONDS: Final = 0.25
"""A timeout of a wait is noticed at most this late."""
PAUSE_SECONDS: Final = 0.1
"""A pause that should end early notices it at most this late."""

_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
"""Edge-triggered, and registered once for each socket: a wait then costs no system call."""

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
        self._wakeup_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup_fd, select.EPOLLIN)
        self._asleep = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> None:
        """Queue work, from any thread. `work` must not raise: that would end the pool."""
        self._work.append(work)
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

    def next_work(self, fiber: Fiber) -> Work | None:
        """Wait for the next work of a fiber and return it; None if the fiber must end."""
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
        while (work := self.pool.next_work(self)) is not None:
            work()


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
