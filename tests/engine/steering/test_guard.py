"""A guard takes pace from the job while a store is busy, and gives it back; it never stops it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from noria.engine.steering.guard import (
    BASELINE_READS,
    LESS,
    MORE,
    SLACK_SECONDS,
    STEP_SECONDS,
    UNKNOWN_SECONDS,
    GuardControl,
    LatencyWatch,
)

EVERY = 5.0
ANSWERS = st.lists(st.sampled_from([True, False, None]), max_size=200)


def told(answers: list[bool | None], floor: float = 0.1) -> list[float]:
    """The share after each answer."""
    control, shares = GuardControl(floor), []
    for number, answer in enumerate(answers):
        control.hear(answer, number * EVERY)
        shares.append(control.factor)
    return shares


@given(ANSWERS, st.floats(0, 1))
def test_the_share_stays_between_the_floor_and_the_whole(
    answers: list[bool | None], floor: float
) -> None:
    assert all(floor <= share <= 1.0 for share in told(answers, floor))


@given(ANSWERS, st.floats(0.01, 1))
def test_it_never_stops_a_job_unless_that_is_asked_for(
    answers: list[bool | None], floor: float
) -> None:
    assert all(share > 0 for share in told(answers, floor))


@given(ANSWERS)
def test_steps_are_bounded_and_far_enough_apart_to_be_felt(answers: list[bool | None]) -> None:
    shares = [1.0, *told(answers, 0.0)]
    changed = [place for place in range(1, len(shares)) if shares[place] != shares[place - 1]]
    for place in changed:
        before, after = shares[place - 1], shares[place]
        assert after <= before + MORE + 1e-9
        assert after >= before * LESS - MORE - 1e-9
    gaps = [(b - a) * EVERY for a, b in itertools.pairwise(changed)]
    assert all(gap >= STEP_SECONDS for gap in gaps)


@given(ANSWERS)
def test_it_comes_back_to_the_whole_once_all_is_quiet(answers: list[bool | None]) -> None:
    assert told([*answers, *[True] * 60])[-1] == 1.0


def test_a_guard_that_says_no_at_once_goes_to_its_floor() -> None:
    shares = told([False] * 20, floor=0.2)
    assert shares[0] == LESS
    assert shares[-1] == 0.2
    assert told([False] * 20, floor=0.0)[-1] == 0.0


def test_one_that_cannot_be_asked_keeps_the_pace_for_a_minute_and_then_yields() -> None:
    shares = told([None] * 30)
    assert shares[int(UNKNOWN_SECONDS / EVERY) - 1] == 1.0
    assert shares[int(UNKNOWN_SECONDS / EVERY)] == LESS
    control = GuardControl(0.1)
    for number in range(100):  # an answer in between begins it again
        control.hear(True if number % 10 == 9 else None, number * EVERY)
    assert control.factor == 1.0


def test_reads_are_compared_with_the_quiet_baseline() -> None:
    watch = LatencyWatch(3.0)
    for _ in range(BASELINE_READS - 1):
        assert watch.hear(0.010, quiet=True) is None
    assert watch.hear(0.010, quiet=True) is True
    assert watch.baseline_seconds == 0.010
    assert watch.hear(0.100, quiet=False) is True, "one slow read is no trouble"
    assert watch.hear(0.100, quiet=False) is False
    assert watch.baseline_seconds == 0.010, "what is read while the job moves is no baseline"
    assert [watch.hear(0.012, quiet=False) for _ in range(3)] == [False, True, True]


def test_a_source_that_answers_at_once_is_allowed_some_milliseconds() -> None:
    watch = LatencyWatch(3.0, baseline_seconds=0.0005)
    assert watch.most_seconds == 0.0005 + SLACK_SECONDS
    assert watch.hear(0.004, quiet=False) is True


def test_the_baseline_follows_later_pauses() -> None:
    watch = LatencyWatch(2.0)
    for _ in range(BASELINE_READS):
        watch.hear(0.010, quiet=True)
    for _ in range(100):
        watch.hear(0.050, quiet=True)
    assert watch.baseline_seconds == 0.050
