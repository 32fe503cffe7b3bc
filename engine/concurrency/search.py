"""Finds how many requests in flight serve one store best, and follows as the store changes.

    REST ---- time, and the budget was used ----> TRIAL: blocks of time at base and at base x step
     ^                                              |
     +-- not worth it: base again, then the other way; after both, a rest, longer each time
     |                                              |
     +-- worth it: the tried budget is the base; the next step goes the same way, wider
     |
    THROTTLED <--- more than a few 503 or 429 at any time: down by the share that was refused;
                   then slowly up, until well past the budget that was refused

More requests in flight bring more work until something is full: a queue of the store, a link, our
CPUs. Beyond that knee they only wait longer. So a wider budget is kept only if it brings work in
proportion, and a narrower one if it costs next to none: one question, asked both ways. Noise is
met by asking again: the blocks take turns (A B B A A B B A ..., which cancels a drift) until the
mean difference of their work is clear of its standard error.

Pure: windows in, a budget out; they also tell the time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from noria.engine.concurrency.throughput import Prices, Window

NOISE_FIRST, NOISE_MIN, NOISE_MAX = 0.1, 0.02, 0.3
"""Relative error of a block's work: assumed before any was seen, and its bounds."""
NOISE_MEMORY = 0.8
"""Weight of what is known of it, as the next pair of blocks comes in."""
LEVEL_MEMORY = 0.8
"""The same for the level of work, which tells a drift."""
CHURN = 0.1
"""Fewer workers than this share come and go without a trial being given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How a knee is looked for. Chosen by simulation (test_search.py); none is a setting."""

    steps_up: tuple[float, ...] = (1.5, 2.0)
    """How far a trial goes; after a success the next step.

    If half as much again is not worth it, at most 1.5 ^ worth - 1 = 8.4 % of the work is missed:
    finer steps find no more than that, and are harder to tell from noise.
    """
    steps_down: tuple[float, ...] = (2.0, 4.0)
    """Larger steps than upwards: it is hard to tell from noise that a step down loses nothing.

    A budget that is too small by half is seen at once.
    """
    worth: float = 0.2
    """A wider budget has to bring step ^ worth: 8.4 % more work for 50 % more in flight."""
    cheap: float = 0.07
    """A narrower one may cost step ^ -cheap: 4.7 % of the work for half in flight.

    Between `worth` and `cheap` a budget stays as it is.
    """
    errors_to_widen: float = 1.5
    errors_to_narrow: float = 1.0
    """Standard errors by which the wider, or the narrower, of two budgets has to be better."""
    errors_at_last: float = 0.25
    """The same for a trial of blocks_max at each budget; if less clear, it is rejected."""
    blocks_max: int = 8
    used_share: float = 0.8
    """A budget less used than this does not limit the work.

    More than 1 / steps_up[0], so that a step that was not used at all is not followed by another.
    """
    low_share: float = 0.5
    """Work has run low if less than this share is used: a trial says nothing then."""
    settle_seconds: float = 1.5
    """A new budget is with all workers after this, and one latency: they report once a second."""
    block_seconds: float = 2.0
    block_latencies: float = 3.0
    block_requests: int = 30
    """A block lasts as long as each of these asks for, ..."""
    block_seconds_max: float = 30.0
    """... and no longer than this."""
    rest_seconds: float = 30.0
    rest_seconds_max: float = 240.0
    """A rest after trials that changed nothing; each doubles, up to the second."""
    drift: float = 0.25
    """Two blocks whose work is off by this share end a rest: the store is not what it was."""
    throttle_share: float = 0.005
    """Fewer throttles among the requests of a window are an accident."""
    throttle_margin: float = 0.1
    """A fall goes so far below the share that was let in."""
    throttle_keep_min: float = 0.5
    """No fall goes below this share of what was in flight."""
    throttle_climb: float = 0.005
    """After a fall: up by this share of the throttled budget in each second.

    A window that has 3 % refused every half minute makes 0.1 % in all.
    """
    throttle_forget: float = 1.3
    """Past this many times the throttled budget the limit has moved, and trials go on."""


@dataclass(slots=True)
class Trial:
    """Blocks at two budgets."""

    budget: int
    at_base: list[Window]
    at_trial: list[Window] = field(default_factory=list)
    trying: bool = True
    """Which of both holds now: the tried one, or the base."""

    @property
    def turn_is_due(self) -> bool:
        """The side that is ahead gives way; each side has two blocks running, for one change."""
        return self.trying == (len(self.at_trial) > len(self.at_base))

    def error(self, noise: float) -> float:
        """Standard error of the difference of two means."""
        return noise * math.sqrt(1 / len(self.at_base) + 1 / len(self.at_trial))


class ConcurrencySearch:
    """The budget of one store: requests in flight, all workers together.

    `floor` == `ceiling` fixes it.
    """

    def __init__(
        self, start: int, floor: int, ceiling: int, *, options: SearchOptions | None = None
    ) -> None:
        self._options = options or SearchOptions()
        self._floor, self._ceiling = floor, ceiling
        self._base = self._within(start)
        self._prices = Prices()
        self._noise = NOISE_FIRST
        self._block = Window()
        self._settle_seconds = self._options.settle_seconds
        self._last: float | None = None
        """Work of the last block, while nothing has changed since."""
        self._level: float | None = None
        """What work at the base is used to be."""
        self._strange = 0
        """Blocks in a row that were off that level."""
        self._history: deque[Window] = deque(maxlen=self._options.blocks_max)
        """The latest blocks at the base."""
        self._rest_left_seconds = 0.0
        self._rest_seconds = self._options.rest_seconds
        self._trial: Trial | None = None
        self._upwards = True
        self._step = 0
        self._tried_directions: set[bool] = set()
        """Directions (True: up) that need no trial: rejected, or the way back after a success."""
        self._held_from: int | None = None
        self._may_hold = True
        self._throttled_at: int | None = None
        self._climbed = 0.0

    @property
    def budget(self) -> int:
        trial = self._trial
        return max(trial.budget, self._floor) if trial is not None and trial.trying else self._base

    @property
    def trying(self) -> bool:
        """True if a trial is under way: no other store should begin one.

        Or neither could tell whose the gain was.
        """
        return self._trial is not None

    @property
    def base(self) -> int:
        """The budget that trials are compared with; the best one so far."""
        return self._base

    @property
    def is_holding(self) -> bool:
        """The base is held wider than a trial could justify, so that another store can try."""
        return self._held_from is not None

    def set_floor(self, floor: int) -> None:
        """Workers came or went: each has one request at least.

        The budget stays if it can; if many came or went, nothing is known of it any more.
        """
        many = abs(floor - self._floor) > CHURN * self._floor
        self._floor = min(floor, self._ceiling)
        if many or self._base < self._floor:
            self._begin_anew(self._base, Window())
            self.wake()

    def wake(self) -> None:
        """Something else has changed that work depends on: a rest ends."""
        self._rest_left_seconds, self._rest_seconds = 0.0, self._options.rest_seconds

    def confirm_hold(self) -> None:
        """Make the wider base the usual one: another store has gained from it."""
        self._held_from = None

    def hear(self, window: Window, *, may_try: bool = True, may_hold: bool = True) -> int:
        """Take the next window; returns the budget that holds from now on.

        If several stores share the work, one at a time may try, and one at a time may hold.
        """
        self._may_hold = may_hold
        self._prices.learn(window)
        self._rest_left_seconds -= window.seconds
        if self._settle_seconds > 0:
            self._settle_seconds -= window.seconds
        elif window.throttle_share > self._options.throttle_share:
            self._fall(window)
        elif self._throttled_at is not None:
            self._climb(window, self._throttled_at)
        else:
            self._fill_block(window, may_try)
        return self.budget

    # -- throttled ---------------------------------------------------------------------------------

    def _fall(self, window: Window) -> None:
        """At most once in settle_seconds and a latency: what was sent before is still answered."""
        options = self._options
        busy = math.ceil(min(self.budget, window.in_flight)) or self.budget
        keep = max(1 - window.throttle_share - options.throttle_margin, options.throttle_keep_min)
        self._throttled_at, self._climbed = busy, 0.0
        self._begin_anew(math.floor(busy * keep), window)
        self.wake()

    def _climb(self, window: Window, throttled_at: int) -> None:
        options = self._options
        if window.in_flight < options.used_share * self._base:
            return
        self._climbed += options.throttle_climb * throttled_at * window.seconds
        whole = math.floor(self._climbed)
        self._climbed -= whole
        self._base = self._within(self._base + whole)
        if self._base >= min(self._ceiling, options.throttle_forget * throttled_at):
            self._throttled_at = None
            self._begin_anew(self._base, window)
            self.wake()

    # -- rest --------------------------------------------------------------------------------------

    def _fill_block(self, window: Window, may_try: bool) -> None:
        self._block += window
        block, options = self._block, self._options
        seconds = max(options.block_seconds, options.block_latencies * block.latency_seconds)
        whole = block.seconds >= seconds and block.requests >= options.block_requests
        if whole or block.seconds >= options.block_seconds_max:
            self._block = Window()
            if self._trial is None:
                self._rest(block, may_try)
            else:
                self._compare(self._trial, block)

    def _rest(self, block: Window, may_try: bool) -> None:
        is_over = self._rest_left_seconds <= 0 and may_try
        if is_over and self._held_from is not None:
            self._begin_anew(self._held_from, block)
            self._begin_rest()
            return
        if not self._is_used(block, self._base) or block.requests == 0:
            self._forget()
            return
        self._learn_noise(block)
        self._watch_drift(block)
        self._history.append(block)
        if is_over:
            self._try(block)

    def _learn_noise(self, block: Window) -> None:
        work = self._prices.work(block)
        if self._last is not None:
            variance = (work - self._last) ** 2 / 2
            noise = NOISE_MEMORY * self._noise**2 + (1 - NOISE_MEMORY) * variance
            self._noise = min(max(math.sqrt(noise), NOISE_MIN), NOISE_MAX)
        self._last = work

    def _watch_drift(self, block: Window) -> None:
        work = self._prices.work(block)
        if self._level is None:
            self._level = work
        if abs(work - self._level) < max(self._options.drift, 3 * self._noise):
            self._level = LEVEL_MEMORY * self._level + (1 - LEVEL_MEMORY) * work
            self._strange = 0
            return
        self._strange += 1
        if self._strange >= 2:
            self._forget()
            self.wake()

    # -- trials ------------------------------------------------------------------------------------

    def _try(self, block: Window) -> None:
        """Begin a trial, in the other direction if there is no room in this one."""
        budget = self._stepped()
        if budget == self._base:
            self._turn_round()
            budget = self._stepped()
        if budget == self._base or self._rest_left_seconds > 0:
            return
        self._trial = Trial(budget=budget, at_base=list(self._history))
        self._settle(block)

    def _stepped(self) -> int:
        if self._upwards:
            step = self._options.steps_up[min(self._step, len(self._options.steps_up) - 1)]
            return self._within(max(self._base + 1, round(self._base * step)))
        step = self._options.steps_down[min(self._step, len(self._options.steps_down) - 1)]
        return self._within(min(self._base - 1, round(self._base / step)))

    def _compare(self, trial: Trial, block: Window) -> None:
        if self._is_unjudgeable(trial, block):
            self._leave_unjudged(trial, block)
            return
        self._learn_noise(block)
        (trial.at_trial if trial.trying else trial.at_base).append(block)
        excess, error = self._excess(trial), trial.error(self._noise)
        options = self._options
        for_it, against_it = options.errors_to_widen, options.errors_to_narrow
        if not self._upwards:
            for_it, against_it = against_it, for_it
        spent = min(len(trial.at_base), len(trial.at_trial)) >= options.blocks_max
        if excess > for_it * error or (spent and excess > options.errors_at_last * error):
            self._accept(trial, block)
        elif spent or excess < -against_it * error:
            self._reject(block)
        elif trial.turn_is_due:
            trial.trying = not trial.trying
            self._settle(block)

    def _excess(self, trial: Trial) -> float:
        """What the tried budget gains beyond what it has to, as a logarithm."""
        gain = self._mean_work(trial.at_trial) - self._mean_work(trial.at_base)
        share = self._options.worth if self._upwards else self._options.cheap
        return gain - share * math.log(trial.budget / self._base)

    def _accept(self, trial: Trial, block: Window) -> None:
        self._base, self._trial = trial.budget, None
        self._tried_directions = {not self._upwards}
        self._rest_seconds = self._options.rest_seconds
        self._step += 1
        self._level = self._mean_work(trial.at_trial)
        self._history.clear()
        self._history.extend(trial.at_trial)
        if trial.trying:
            self._try(block)
        else:
            self._settle(block)

    def _reject(self, block: Window) -> None:
        self._trial = None
        self._turn_round()
        self._settle(block)

    def _is_unjudgeable(self, trial: Trial, block: Window) -> bool:
        """True if a trial says nothing.

        Work has run low, no request ended, or the wider budget is not used. The last is judged
        nevertheless while another store holds its budget for it.
        """
        low = block.in_flight < self._options.low_share * min(self.budget, self._base)
        if low or block.requests == 0:
            return True
        tried = sum(trial.at_trial, block) if trial.trying else block
        return self._may_hold and trial.trying and not self._is_used(tried, trial.budget)

    def _leave_unjudged(self, trial: Trial, block: Window) -> None:
        """End a trial without a verdict; hold the wider budget if another store is the bottleneck.

        As much in flight as before means that the other store limits the work. It might gain
        nothing alone either, and the two would wait for each other for ever: so the wider budget
        stays while the other one tries.
        """
        base = self._base
        held_back = self.budget > base and self._is_used(block, base)
        self._begin_anew(trial.budget if held_back else base, block)
        self._held_from = base if held_back else None
        self._begin_rest()

    def _turn_round(self) -> None:
        """Try the other direction; after both were rejected, rest."""
        self._tried_directions.add(self._upwards)
        self._upwards, self._step = not self._upwards, 0
        if len(self._tried_directions) == 2:
            self._tried_directions.clear()
            self._upwards = True
            self._begin_rest()

    def _begin_rest(self) -> None:
        self._rest_left_seconds = self._rest_seconds
        self._rest_seconds = min(2 * self._rest_seconds, self._options.rest_seconds_max)

    # -- shared ------------------------------------------------------------------------------------

    def _begin_anew(self, budget: int, window: Window) -> None:
        """A base of which nothing is known."""
        self._base, self._trial, self._held_from = self._within(budget), None, None
        self._upwards, self._step = True, 0
        self._tried_directions.clear()
        self._forget()
        self._settle(window)

    def _forget(self) -> None:
        self._last = self._level = None
        self._strange = 0
        self._history.clear()

    def _settle(self, window: Window) -> None:
        """A budget changes: what comes next belongs to neither."""
        self._block, self._last = Window(), None
        latency_seconds = min(window.latency_seconds, self._options.block_seconds_max)
        self._settle_seconds = self._options.settle_seconds + latency_seconds

    def _is_used(self, block: Window, budget: int) -> bool:
        return block.in_flight >= self._options.used_share * budget

    def _mean_work(self, blocks: Sequence[Window]) -> float:
        return sum(map(self._prices.work, blocks)) / len(blocks)

    def _within(self, budget: int) -> int:
        return max(self._floor, min(budget, self._ceiling))
