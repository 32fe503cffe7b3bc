"""Finds how many transfers in flight fill the line, and looks again now and then.

    REST --- it is over, or the world has changed ---> TRIAL of twice as many
     ^                                                   |         |
     |                       not worth it: back to what was        +--- worth it: double again
     |                                  |
     +--- no: back, and rest ---- TRIAL of half as many ---- yes: halve again

More in flight bring more work until something is full: the line, a store, our processors, memory.
Beyond that they only wait longer. So twice as many are kept only if they bring more work, and half
as many if they bring no less. Half is tried only while nothing narrower is known, or where each
transfer has become much slower than one was: that tells a queue from a line.

While transfers wait for the job's share of the bandwidth (workers/runtime/bandwidth.py), how many
fill it is not searched for: it is those that do not wait.

A store's refusals are answered by the workers, at once (workers/runtime/pacing.py); here they only
mean that a trial has to wait. So does one while our processors are busy.

Pure: windows of about a second in, a number out; they also tell the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from noria.engine.concurrency.throughput import Prices, Window

WORTH = 0.08
"""Twice as many have to bring this share of work more; so at most this share is missed."""
FREE = 0.03
"""Half as many may cost this share; and so many refusals are no accident."""
CLEAR = 0.25
"""What brings so much more in two windows, or twice that in one, is kept without further ado."""
WINDOWS_MAX = 5
"""A wider number is given up after so many: on a long way that is when its connections fill."""
USED = 0.8
"""A number that is used less than this does not limit the work: nothing is learnt about it."""
CHANGED = 0.25
"""The world is not what it was: work is off by this share, twice, or so much of it is of a kind."""
HELD, HELD_MUCH = 0.1, 0.5
"""Transfers that wait for bandwidth for the first part of their time fill it: more would only wait.
From the second part on, fewer fill it, too."""
HELD_SPARE = 1.5
"""Times as many as are busy: some are between two requests when bandwidth is there."""
SETTLE_SECONDS = 1.0
"""Until then new transfers connect, and a window belongs to neither number."""
REST_SECONDS, REST_SECONDS_MAX = 20.0, 160.0
"""From look to look; twice as long after each that changed nothing."""


@dataclass(slots=True)
class _Trial:
    number: int
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Of the last windows: in the first ones connections still fill."""
        return _mean(self.rates[-3:] if len(self.rates) == WINDOWS_MAX else self.rates[-2:])

    @property
    def agrees(self) -> bool:
        return len(self.rates) > 1 and abs(self.rates[-1] / self.rates[-2] - 1) <= WORTH


class TransferSearch:
    """The search of one run: `number` transfers in flight, from 1 to `most`."""

    def __init__(self, start: int, most: int) -> None:
        self._base, self._most = max(1, min(start, most)), most
        self._prices = Prices()
        self.wake()

    @property
    def number(self) -> int:
        return self._trial.number if self._trial else self._base

    def wake(self) -> None:
        """Look again, knowing nothing: the world has changed."""
        self._trial: _Trial | None = None
        self._rates: list[float] = []
        self._small_share = 0.0
        self._fastest = 0.0
        self._narrower_known = False
        self._free_windows = 0
        self._before_held = 0
        """The number that was in use when bandwidth began to hold transfers. 0: it holds none."""
        self._strange = 0
        self._rest_seconds, self._rest_left = REST_SECONDS, 0.0
        self._settled_seconds = 0.0

    def hear(self, window: Window, *, busy: bool = False, workers: int = 1) -> None:
        """Take what all workers did in the last second or so; `busy`: their processors are full."""
        self._prices.learn(window)
        self._rest_left -= window.seconds
        if window.held_share > HELD:
            self._fit(window, workers)
            return
        if self._before_held:
            self._free_windows += 1
            if self._free_windows < 2:
                return
            self._base = max(self._base, self._before_held)
            self.wake()
        draining = window.in_flight > self.number / USED
        self._settled_seconds += 0.0 if draining else window.seconds
        if draining or self._settled_seconds < SETTLE_SECONDS + window.seconds:
            return
        if window.in_flight < USED * self.number or window.throttle_share > FREE:
            if self._trial:
                self._end_trial(self._base)
                self._rest()
            self._rates.clear()
            return
        rate = max(1.0, self._prices.work(window) / window.seconds)
        share = self._prices.small_share(window)
        if self._rates and abs(share - self._small_share) > CHANGED:
            self.wake()
        elif self._trial:
            self._judge(self._trial, rate)
        else:
            self._watch(rate, share)
            if self._rest_left <= 0 and len(self._rates) >= 2 and not busy:
                self._try(2 * self._base)

    def _fit(self, window: Window, workers: int) -> None:
        """The bandwidth is held: keep no more transfers than fill it, and some to spare.

        One more for each worker reads while others write what they have read.
        """
        busy = HELD_SPARE * window.in_flight * (1 - window.held_share)
        filling = workers + max(1, math.ceil(busy))
        base = self._base
        if window.held_share > HELD_MUCH:
            base = max(1, min(base, filling))
        self._before_held, self._free_windows = self._before_held or self._base, 0
        self._end_trial(base)
        self._rates.clear()

    def _watch(self, rate: float, small_share: float) -> None:
        if self._rates and abs(rate / self._level - 1) > CHANGED:
            self._strange += 1
            if self._strange == 2:
                self.wake()
            return
        self._strange = 0
        self._rates, self._small_share = [*self._rates[-2:], rate], small_share
        self._fastest = max(self._fastest, self._level / self._base)

    @property
    def _level(self) -> float:
        """Work a second at the base."""
        return max(1.0, _mean(self._rates))

    def _try(self, number: int) -> None:
        number = max(1, min(number, self._most))
        if number == self._base:
            self._end_trial(self._base)
            self._rest()
            return
        self._trial = _Trial(number)
        self._settled_seconds = 0.0

    def _judge(self, trial: _Trial, rate: float) -> None:
        trial.rates.append(rate)
        wider = trial.number > self._base
        growth = trial.rate / self._level - 1
        is_worth = growth >= (WORTH if wider else -FREE)
        sure = trial.agrees and (growth >= CLEAR or not wider)
        clear = wider and rate / self._level - 1 >= 2 * CLEAR
        if not (sure or clear) and len(trial.rates) < WINDOWS_MAX:
            return
        if is_worth:
            self._end_trial(trial.number)
            self._rates = [trial.rate] * 2
            self._narrower_known = wider
            self._rest_seconds = REST_SECONDS
            self._try(2 * self._base if wider else self._base // 2)
        elif wider and self._may_be_too_many:
            self._end_trial(self._base)
            self._try(self._base // 2)
        else:
            self._narrower_known = self._narrower_known or not wider
            self._end_trial(self._base)
            self._rest()

    @property
    def _may_be_too_many(self) -> bool:
        slow = self._level / self._base * (1 + 2 * CLEAR) < self._fastest
        return slow or not self._narrower_known

    def _end_trial(self, base: int) -> None:
        self._trial, self._base = None, base
        self._strange, self._settled_seconds = 0, 0.0

    def _rest(self) -> None:
        self._rest_left = self._rest_seconds
        self._rest_seconds = min(2 * self._rest_seconds, REST_SECONDS_MAX)


def _mean(rates: list[float]) -> float:
    return sum(rates) / len(rates)
