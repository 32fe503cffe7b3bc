"""A limit falls when a store refuses, comes back, and concerns what was refused alone."""

from __future__ import annotations

import math

import pytest

from noria.workers.runtime.refusals import (
    FALL,
    PAUSE_SECONDS_MAX,
    PREFIXES_MAX,
    RECOVERY_SECONDS,
    SAMPLE,
    RefusalMap,
    Scope,
    Throttle,
)
from tests.support.refusing_stores import RefusingWorld, Run, SimulatedCeiling

# -- one limit -------------------------------------------------------------------------------------


def fallen(in_flight: float = 100.0, latency: float = 0.02) -> Throttle:
    return Throttle(0.0, in_flight=in_flight, latency=latency)


def test_it_falls_at_once_and_comes_back_slowly_near_the_refused_level() -> None:
    throttle = fallen()
    assert throttle.limit(0.0) == pytest.approx(100 * FALL)
    first, last = throttle.limit(RECOVERY_SECONDS / 3), throttle.limit(RECOVERY_SECONDS)
    assert last == pytest.approx(100)
    assert last - first < (first - 100 * FALL) / 2
    assert throttle.limit(RECOVERY_SECONDS * 1.3) < 101
    assert throttle.limit(RECOVERY_SECONDS * 3) > 200


def test_refusals_of_one_moment_are_one_fall_and_say_how_deep() -> None:
    throttle = fallen()
    for _ in range(50):
        throttle.end(0.1, 50, -0.1, accepted=True)
        throttle.refuse(0.1, 50, -0.1, waiting=True, asked=False)
    assert throttle.limit(0.1) == pytest.approx(50 * FALL, rel=0.01)


def test_a_few_refusals_in_a_thousand_are_lived_with() -> None:
    throttle = fallen()
    for number in range(1, 1500):
        now = number / 100
        if number % 500 == 0:
            throttle.refuse(now, 99, now - 0.02, waiting=True, asked=False)
        else:
            throttle.end(now, 99, now - 0.02, accepted=True)
    assert throttle.limit(15.0) == pytest.approx(100, rel=0.01)


def test_less_than_one_in_flight_is_a_pause_between_requests() -> None:
    scope: Scope[None] = Scope()
    scope.throttle = Throttle(0.0, in_flight=0.1 / FALL, latency=0.02)
    scope.start(0.0)
    scope.end(0.02, 0.0, accepted=True)
    assert scope.wait_seconds(0.02) == pytest.approx(0.2 - 0.02, abs=0.03)


def test_what_refuses_everything_is_still_asked_now_and_then() -> None:
    throttle = fallen(in_flight=1.0)
    for second in range(2, 400, 2):
        throttle.refuse(second, 0, second - 0.02, waiting=True, asked=False)
    throttle.start(400.0, 0)
    assert throttle.wait_seconds(400.0, 0) <= PAUSE_SECONDS_MAX / FALL


def test_nothing_starts_before_retry_after_is_over() -> None:
    throttle = fallen()
    throttle.be_quiet(5.0)
    assert throttle.wait_seconds(1.0, 0) == pytest.approx(4.0)
    assert throttle.wait_seconds(5.0, 0) == 0.0
    assert throttle.limit(5.0) == pytest.approx(100 * FALL), "the way back begins after it"


def test_a_limit_that_holds_nothing_back_is_forgotten() -> None:
    scope: Scope[None] = Scope(ceiling=1000.0)
    scope.throttle = fallen()
    scope.queue.append(None)
    assert not scope.forget_recovered(RECOVERY_SECONDS * 3), "others wait for it"
    scope.queue.clear()
    assert scope.forget_recovered(RECOVERY_SECONDS * 3)
    assert scope.wait_seconds(RECOVERY_SECONDS * 3) == 0.0


# -- whom a refusal concerns -----------------------------------------------------------------------


class Answers:
    """What a store answers, request by request, at a hundred a second."""

    def __init__(self) -> None:
        self.store: Scope[None] = Scope(ceiling=64.0)
        self.refusals = RefusalMap(self.store, 0.0)
        self.now = 0.0

    def take(self, key: str) -> None:
        self.now += 0.01
        self.refusals.count(key, self.now, refused=False)

    def refuse(self, key: str, asked_seconds: float = 0.0) -> tuple[Scope[None], bool]:
        self.now += 0.01
        return self.refusals.refuse(key, self.now, self.now - 0.005, asked_seconds)

    def limits(self, key: str) -> int:
        """Return how many limits, beside the store's, hold for a key."""
        return len(self.refusals.scopes(key)) - 1


def test_a_store_that_refuses_everywhere_is_one_scope_however_its_keys_are_spread() -> None:
    answers = Answers()
    for number in range(20 * PREFIXES_MAX):
        answers.take(f"job/{number}/a")
        if number % 3 == 0:
            scope, known = answers.refuse(f"job/{number}/b")
            assert scope is answers.store
    assert known
    assert not answers.refusals.limited


def test_a_store_that_refuses_everything_is_one_scope() -> None:
    answers = Answers()
    scopes = {answers.refuse(f"job/{number % 5}/{number}")[0] for number in range(500)}
    assert scopes == {answers.store}


@pytest.mark.parametrize("folder", ["job/b/", "job/b/2024/07/"])
def test_a_prefix_that_is_refused_alone_is_limited_alone(folder: str) -> None:
    answers = Answers()
    for number in range(40):
        for other in "acde":
            answers.take(f"job/{other}/{number}")
        answers.take(f"job/b/2023/{number}")
        scope, known = answers.refuse(f"{folder}{number}")
    assert known
    assert scope is not answers.store
    assert answers.limits(f"{folder}new") == 1
    assert answers.limits("job/a/new") == 0
    assert answers.store.throttle is None, "what the store fell for was the prefix"


def test_one_object_may_be_what_is_refused() -> None:
    answers = Answers()
    for number in range(40):
        answers.take(f"job/{number}")
        answers.refuse("job/hot")
    assert answers.limits("job/hot") == 1
    assert answers.limits("job/39") == 0


def test_two_prefixes_that_are_refused_are_two_scopes() -> None:
    answers = Answers()
    for number in range(100):
        for folder in "abcdefgh":
            (answers.refuse if folder in "ab" else answers.take)(f"{folder}/{number}")
    assert [answers.limits(f"{folder}/new") for folder in "abc"] == [1, 1, 0]
    assert answers.store.throttle is None


def test_the_first_refusals_lower_the_store_but_do_not_silence_it() -> None:
    answers = Answers()
    scope, known = answers.refuse("a/1", asked_seconds=30.0)
    assert (scope, known) == (answers.store, False)
    assert scope.limit(answers.now) < 64
    assert scope.wait_seconds(answers.now) < 1
    for number in range(2 * SAMPLE):
        scope, known = answers.refuse(f"{number}/1", asked_seconds=30.0)
    assert known
    assert scope.wait_seconds(answers.now) == pytest.approx(30.0)


def test_the_prefixes_that_are_remembered_are_bounded() -> None:
    answers = Answers()
    for number in range(3 * PREFIXES_MAX):
        answers.take(f"{number}/a")
        answers.refuse(f"{number % 7}/a/{number}")
    assert len(answers.refusals._prefixes) <= PREFIXES_MAX


# -- in simulation ---------------------------------------------------------------------------------


def world(
    ceiling: float, latency_seconds: float, workers: int, places: int, retry: float
) -> RefusingWorld:
    return RefusingWorld(
        latency_seconds=latency_seconds,
        workers=workers,
        places=places,
        ceilings=[SimulatedCeiling(ceiling)],
        retry_after_seconds=retry,
    )


@pytest.mark.parametrize("retry_after_seconds", [0.0, 1.0])
@pytest.mark.parametrize(
    ("ceiling", "latency_seconds", "workers", "places"),
    [
        (10, 0.005, 1, 16),
        (10, 0.2, 8, 64),
        (100, 0.005, 1, 512),
        (100, 0.02, 8, 64),
        (100, 0.2, 2, 128),
        (1000, 0.02, 2, 128),
    ],
)
def test_after_a_minute_little_is_refused_and_the_ceiling_is_used(
    ceiling: float, latency_seconds: float, workers: int, places: int, retry_after_seconds: float
) -> None:
    run = Run(world(ceiling, latency_seconds, workers, places, retry_after_seconds))
    seconds = 240 if ceiling <= 100 else 100
    total = run.until(seconds).total
    assert total.refused_share <= 0.01
    assert total.accepted >= 0.9 * ceiling * (seconds - run.counted_from)


FOLDERS = [f"job/{letter}/" for letter in "abcd"]


@pytest.mark.parametrize("retry_after_seconds", [0.0, 1.0, 5.0])
@pytest.mark.parametrize(("workers", "places"), [(1, 64), (2, 32)])
def test_a_prefix_that_is_refused_leaves_the_others_alone(
    workers: int, places: int, retry_after_seconds: float
) -> None:
    limited = RefusingWorld(
        latency_seconds=0.2,
        workers=workers,
        places=places,
        folders=FOLDERS,
        ceilings=[SimulatedCeiling(10, below=FOLDERS[0])],
        retry_after_seconds=retry_after_seconds,
    )
    run = Run(limited).until(180)
    refused = run.tallies[FOLDERS[0]]
    others = sum(run.tallies[folder].accepted for folder in FOLDERS[1:])
    possible = (workers * places / 0.2 - 10) * 120
    assert others >= 0.95 * possible
    assert refused.refused_share <= 0.01
    assert refused.accepted >= 0.85 * 10 * 120, "a slow scope is known after some minutes"


@pytest.mark.parametrize(("share", "left"), [(0.002, 0.9), (0.01, 0.8), (0.05, 0.45)])
def test_what_refuses_a_few_whatever_the_rate_is_keeps_its_throughput(
    share: float, left: float
) -> None:
    run = Run(RefusingWorld(latency_seconds=0.02, places=16, refused_anyway=share)).until(180)
    assert run.total.accepted >= left * 16 / 0.02 * 120


def test_a_store_that_takes_everything_again_is_used_in_full_within_two_minutes() -> None:
    limited = world(100, 0.02, 1, 64, 0.0)
    run = Run(limited, counted_from=240.0).until(120)
    limited.ceilings = []
    run.until(270)
    assert run.total.accepted >= 0.95 * 64 / 0.02 * 30
    assert run.workers[0].refusals is None
    assert math.isinf(run.workers[0].ticking_at)
