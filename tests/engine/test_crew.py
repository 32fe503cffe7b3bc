"""How many workers a job gets where nobody says."""

from __future__ import annotations

import pytest

from noria.engine.config.jobfile import RunConfig
from noria.engine.crew import Crew, worthwhile_workers
from tests.support.scripted_cluster import ScriptedCluster

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


def test_who_is_more_than_was_asked_for_is_told_the_newest_first() -> None:
    crew = Crew(ScriptedCluster(), RunConfig(workers=4), objects=10, size=10)
    crew.alive |= {"1", "2", "9", "10"}
    assert crew.surplus() == []
    crew.ask(2)
    assert crew.wanted({}) == 2
    assert crew.surplus() == ["10", "9"]
    crew.note_leaving("10", now=1.0)
    assert crew.surplus() == ["9"], "who leaves already is not told again"
    crew.ask(0)
    assert crew.surplus() == [], "as many as the work needs: nobody is sent away"
