"""How many workers a job gets where nobody says."""

from __future__ import annotations

import pytest

from noria.engine.crew import worthwhile_workers

GIB = 1024**3


@pytest.mark.parametrize(
    ("objects", "size", "workers"),
    [
        (0, 0, 1),
        (10, 40_960, 1),
        (24_999, 100_000_000, 1),
        (50_000, 200_000_000, 3),
        (1, 4 * GIB, 5),
        (8, 2 * GIB, 3),
        (10**9, 10**15, 931_323),
    ],
)
def test_a_worker_for_what_is_worth_its_start(objects: int, size: int, workers: int) -> None:
    assert worthwhile_workers(objects, size) == workers
