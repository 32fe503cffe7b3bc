"""A worker that does not hear its driver stops before its leases are given to others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noria.workers.runtime.hold import END, SHARE_OF_TIMEOUT, Hold

TIMEOUT = 60.0


class MovedClock:
    """A clock that someone else moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def state(hold: Hold) -> tuple[bool, bool]:
    return hold.is_over, hold.must_end


def test_it_is_over_when_it_was_not_renewed() -> None:
    clock = MovedClock()
    hold = Hold(30.0, clock=clock)
    clock.now += 29.9
    assert state(hold) == (False, False)
    clock.now += 0.1
    assert state(hold) == (True, False)
    clock.now += 15
    assert state(hold) == (True, True)


def test_a_report_of_which_nobody_knows_renews_nothing() -> None:
    clock = MovedClock()
    hold = Hold(30.0, clock=clock)
    clock.now += 20
    hold.note_sent()
    clock.now += 10
    assert state(hold) == (True, False)
    hold.renew()
    assert state(hold) == (False, False), "it has arrived, ten seconds ago"
    clock.now += 20
    assert state(hold) == (True, False)


def test_a_call_that_was_long_on_its_way_does_not_make_up_for_that() -> None:
    clock = MovedClock()
    hold = Hold(30.0, clock=clock)
    hold.note_sent()
    clock.now += 90
    hold.renew()
    assert hold.is_over


def test_without_seconds_it_is_never_over() -> None:
    clock = MovedClock()
    hold = Hold(clock=clock)
    clock.now += 1e12
    assert not hold.is_over
    assert not hold.must_end


delays = st.floats(0, 200)


@given(
    st.lists(st.tuples(delays, delays, delays), max_size=6),
    delays,
    st.floats(0.9, 1.1),
)
def test_nobody_else_has_the_lease_before_the_process_has_ended(
    rounds: list[tuple[float, float, float]], silence: float, drift: float
) -> None:
    """Whatever the delays of calls and answers, and clocks that run a tenth apart.

    `now` is the driver's time, `now x drift` the worker's.
    """
    clock = MovedClock()
    now, heard = 0.0, 0.0
    clock.now = 0.0
    hold = Hold(SHARE_OF_TIMEOUT * TIMEOUT, clock=clock)
    for on_its_way, at_work, back in rounds:
        now += on_its_way
        clock.now = now * drift
        hold.renew()
        now += at_work
        clock.now = now * drift
        hold.note_sent()
        now += back
        if now - heard >= TIMEOUT:
            break  # the driver has given it up already
        heard = now
    given_away = max(now, heard + TIMEOUT)
    clock.now = (given_away + silence) * drift
    assert hold.is_over
    assert hold.must_end
    assert SHARE_OF_TIMEOUT * END < 1 / 1.1
