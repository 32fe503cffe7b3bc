"""Memory in flight is bounded, and large buffers are used again."""

import threading

import pytest

from noria.workers.runtime.buffers import MIN_BUFFER_BYTES, BufferPool

MIB = 1024 * 1024


def test_a_view_has_exactly_the_size_asked_for() -> None:
    pool = BufferPool(4 * MIB)
    for size in (0, 1, MIN_BUFFER_BYTES, MIB - 1, MIB + 1, 3 * MIB):
        with pool.take(size) as view:
            assert len(view) == size
    assert pool.bytes_in_flight == 0


def test_who_asks_for_more_than_there_is_waits_for_room() -> None:
    pool = BufferPool(2 * MIB)
    got = threading.Event()

    def take_two() -> None:
        with pool.take(2 * MIB):
            got.set()

    with pool.take(MIB):
        thread = threading.Thread(target=take_two)
        thread.start()
        assert not got.wait(0.1)
    thread.join(timeout=10)
    assert got.is_set()


def test_a_buffer_comes_back_from_the_shelf() -> None:
    pool = BufferPool(8 * MIB)
    with pool.take(MIB) as view:
        first = view.obj
    with pool.take(MIB) as view:
        assert view.obj is first


def test_shelved_and_used_memory_together_stay_within_the_capacity() -> None:
    pool = BufferPool(4 * MIB)
    for size in (MIB, 2 * MIB, 3 * MIB, 4 * MIB, MIB):
        with pool.take(size):
            assert pool.bytes_in_flight + pool._free_bytes <= 4 * MIB


def test_more_than_the_capacity_is_refused_rather_than_waited_for() -> None:
    with pytest.raises(ValueError, match="exceeds the pool"), BufferPool(MIB).take(2 * MIB):
        pass
