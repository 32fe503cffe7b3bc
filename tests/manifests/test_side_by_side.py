from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from noria.manifests.side_by_side import side_by_side


def test_results_come_in_order_and_calls_run_at_the_same_time() -> None:
    both = threading.Barrier(2)

    def meet(number: int) -> int:
        both.wait(timeout=30)
        return number * number

    assert list(side_by_side(meet, range(10), threads=2)) == [n * n for n in range(10)]


def test_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = side_by_side(str, items(), threads=3)
    assert next(results) == "0"
    assert len(taken) == 4
    results.close()
    assert len(taken) == 4


def test_what_is_raised_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield from (3, 2, 0)
        raise OSError("no more items")

    results = side_by_side(lambda number: 6 // number, items(), threads=8)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)

    results = side_by_side(lambda number: number, items(), threads=8)
    assert [next(results) for _ in range(3)] == [3, 2, 0]
    with pytest.raises(OSError, match="no more items"):
        next(results)
