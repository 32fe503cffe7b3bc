"""Memory for bytes in flight: reused, and bounded in bytes for the whole process.

New memory costs a page fault for each page, in total as much as hashing it about ten times. So
buffers are kept on a free list for their size and handed out again, and large ones use large pages.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

from noria.workers.runtime.greenlets import Waiter

MIN_BUFFER_BYTES = 64 * 1024
LARGE_PAGE_BYTES = 2 * 1024 * 1024

_Memory = bytearray | mmap.mmap


class ScratchBuffer:
    """Memory that a longer body passes through: each piece is used before the next one is read."""

    def __init__(self, memory: memoryview, size: int) -> None:
        self.memory = memory
        self._size = size

    def __len__(self) -> int:
        """The size of the body in bytes."""
        return self._size


BodyBuffer: TypeAlias = memoryview | ScratchBuffer
"""The memory that receives the bytes of a body."""


def body_slices(buffer: BodyBuffer, start: int, end: int) -> Iterator[memoryview]:
    """Yield the memory for the bytes [start, end) of the body, in order.

    Fill each slice before you take the next one.
    """
    if isinstance(buffer, memoryview):
        yield buffer[start:end]
        return
    while start < end:
        view = buffer.memory[: end - start]
        yield view
        start += len(view)


class BufferPool:
    """Hands out writable memoryviews of at most `capacity_bytes` in total.

    Requests beyond that wait, in the order they came. A single request for more than the capacity
    is a programming error (ValueError).
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._out_bytes = 0
        self._free_bytes = 0
        self._free_lists: dict[int, list[_Memory]] = {}
        self._queue: deque[tuple[int, Waiter]] = deque()
        self._lock = threading.Lock()

    @property
    def bytes_in_flight(self) -> int:
        return self._out_bytes

    @contextmanager
    def take(self, size: int) -> Iterator[memoryview]:
        """Take a buffer of exactly `size` bytes for the block; its content is undefined."""
        room = _size_class(size)
        if room > self.capacity_bytes:
            raise ValueError(f"a buffer of {room} bytes exceeds the pool of {self.capacity_bytes}")
        waiter = None
        with self._lock:
            if self._queue or self._out_bytes + room > self.capacity_bytes:
                waiter = Waiter()
                self._queue.append((room, waiter))
            else:
                self._out_bytes += room
        if waiter is not None:
            waiter.wait()
        with self._lock:
            buffer = self._take_free(room)
        try:
            yield memoryview(buffer)[:size]
        finally:
            with self._lock:
                self._out_bytes -= room
                self._put_free(room, buffer)
                self._admit()

    def _admit(self) -> None:
        """Admit strictly in order, so that small requests cannot starve large ones."""
        while self._queue and self._out_bytes + self._queue[0][0] <= self.capacity_bytes:
            room, waiter = self._queue.popleft()
            self._out_bytes += room
            waiter.wake()

    def _take_free(self, room: int) -> _Memory:
        free_list = self._free_lists.get(room)
        if free_list:
            self._free_bytes -= room
            return free_list.pop()
        while self._free_lists and self._out_bytes + self._free_bytes > self.capacity_bytes:
            self._drop_one()
        return _fresh(room)

    def _put_free(self, room: int, buffer: _Memory) -> None:
        self._free_lists.setdefault(room, []).append(buffer)
        self._free_bytes += room

    def _drop_one(self) -> None:
        room, free_list = next(iter(self._free_lists.items()))
        if free_list:
            free_list.pop()
            self._free_bytes -= room
        if not free_list:
            del self._free_lists[room]


def _fresh(room: int) -> _Memory:
    if room < LARGE_PAGE_BYTES:
        return bytearray(room)
    memory = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without large pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _size_class(size: int) -> int:
    """Round `size` up to a power of two, or to one and a half of one.

    At most a third of the result is wasted.
    """
    power = MIN_BUFFER_BYTES
    while power < size:
        if power + power // 2 >= size:
            return power + power // 2
        power *= 2
    return power
