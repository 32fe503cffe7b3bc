"""Medians, and ratios that are taken inside rounds."""

from __future__ import annotations

import pytest

from noria.benchmarks.measure.spread import Spread, paired_ratios, spread_of


def test_the_spread_of_nothing_is_none() -> None:
    assert spread_of([]) is None


def test_median_lowest_and_highest() -> None:
    assert spread_of([5.0, 1.0, 2.0, 9.0, 3.0]) == Spread(3.0, 1.0, 9.0, 5)
    assert spread_of([4.0, 1.0]) == Spread(2.5, 1.0, 4.0, 2)


def test_load_that_strikes_a_whole_round_leaves_the_ratio_alone() -> None:
    mine, other = {1: 1.0, 2: 10.0, 3: 2.0}, {1: 2.0, 2: 20.0, 3: 4.0}
    assert paired_ratios(mine, other) == Spread(0.5, 0.5, 0.5, 3)


def test_the_median_is_that_of_ratios_not_the_ratio_of_medians() -> None:
    mine, other = {1: 1.0, 2: 2.0, 3: 30.0}, {1: 1.0, 2: 4.0, 3: 2.0}
    found = paired_ratios(mine, other)
    assert found is not None
    assert found.median == pytest.approx(1.0)
    assert (found.lowest, found.highest) == (0.5, 15.0)


def test_a_round_that_one_side_lacks_does_not_count() -> None:
    assert paired_ratios({1: 1.0, 2: 6.0}, {2: 3.0, 3: 1.0}) == Spread(2.0, 2.0, 2.0, 1)
    assert paired_ratios({1: 1.0}, {2: 1.0}) is None


def test_text() -> None:
    assert Spread(0.513, 0.49, 0.551, 5).text() == "0.51 (0.49 to 0.55)"
    assert Spread(12_345.6, 12_000.0, 13_000.0, 5).text(0) == "12,346 (12,000 to 13,000)"
    assert Spread(0.5, 0.5, 0.5, 1).text(1) == "0.5"
