"""What a store's refusals (429, 503) say: how much may be in flight, and of what. Pure.

A Throttle holds the limit of one scope, the store or a part of it. It falls at once and comes back
as TCP CUBIC does: fast at first, slowly near the level at which the store refused, then faster
again, until it is not needed any more. So it spends its time close below the store's own ceiling,
and tries more than that seldom.

A RefusalMap says which scope a refusal is charged to: the store, or the longest prefix of keys
that is refused much more often than the rest is.

Callers pass the time, in seconds.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

W = TypeVar("W")
"""What waits for its turn: the caller's own."""

FALL: Final = 0.85
"""Where a limit starts again, over what the store took. CUBIC's 0.7 costs 7 % of the ceiling on
average, this costs 4 %; closer to 1, many workers do not notice each other."""
RECOVERY_SECONDS: Final = 15.0
"""The time back to the level that was refused: what stores take to move a prefix to more machines
is minutes, and a second of refusals in fifteen is too much."""
RECOVERY_REQUESTS: Final = 250
"""The least requests on the way back. A try above the ceiling costs a request or two, and one in a
hundred may be refused: a slow scope takes longer."""
SAMPLE: Final = 8
"""Requests that are enough to judge by: a share of fewer is taken for a share of so many."""
TOLERATED: Final = 0.003
"""The share of refusals that is lived with: stores refuse a few whatever the rate is, and a limit
that falls for each of those never comes back."""
SMALL_SHARE: Final = 0.1
"""A share of refusals up to this that a fall does not lower is the store's own way."""
SHARE_REQUESTS: Final = 1000
"""So many requests are looked back on for that share: one that falls counts once."""
TAKEN_MIN: Final = 0.25
"""The least share that is taken for what a store took: it may have stood still for a moment."""
PAUSE_SECONDS_MAX: Final = 5.0
"""The longest pause between two requests: a scope that refuses everything is asked this often."""
PREFIXES_MAX: Final = 1024
"""Prefixes that are remembered: those asked for last. A few levels of what is being moved now."""
LIMITED_MAX: Final = 128
"""Prefixes with a limit of their own; beyond these, it is the scope around them that falls."""
MEMORY_SECONDS: Final = 30.0
"""Counts of prefixes are halved this often, so that they speak of what is being moved now."""

LATENCY_SECONDS_MIN: Final = 0.0001
GOLDEN_SHARE: Final = 0.618034
"""Steps that spread numbers evenly between 0 and 1."""
_DOUBLE: Final = (1.0 / (1.0 - FALL)) ** (1.0 / 3.0)
"""Recoveries after which the curve is at twice the refused level, counted from that level."""


class Throttle:
    """How many requests to one scope may be in flight: fewer than one is a pause between them."""

    __slots__ = (
        "_counted_at",
        "_fallen_from",
        "_fell_at",
        "_in_flight",
        "_latency",
        "_latency_seen",
        "_low_refused",
        "_low_sent",
        "_next_start",
        "_quiet_until",
        "_recovery",
        "_refused",
        "_refused_before",
        "_sent",
        "_sent_before",
        "_share",
        "_share_of",
        "_spread",
        "_taken_before",
        "_top",
        "accepted_at",
        "since",
    )

    def __init__(self, now: float, *, in_flight: float, latency: float) -> None:
        self.since = now
        self.accepted_at = -math.inf
        """When a request was last accepted."""
        self._in_flight = in_flight
        """A mean that fades."""
        self._latency = self._latency_seen = max(latency, LATENCY_SECONDS_MIN)
        self._counted_at = self._next_start = self._quiet_until = now
        self._spread = 0.0
        self._sent = self._refused = 0.0
        self._low_sent = self._low_refused = 0.0
        """Requests that were sent while the limit was lowest since the last fall."""
        self._fell_at = now
        self._fall(now, in_flight)

    # -- the curve ---------------------------------------------------------------------------------

    def limit(self, now: float) -> float:
        """Return how many requests may be in flight."""
        since = max(0.0, now - max(self._fell_at, self._quiet_until)) / self._recovery - 1.0
        if since <= _DOUBLE:
            return self._top * (1.0 + (1.0 - FALL) * since * since * since)
        return self._top * math.exp2(min(30.0, 1.0 + 5.0 * (since - _DOUBLE)))

    def is_over(self, now: float, needed: float) -> bool:
        """Return True if twice what was refused is let through, and all that is needed."""
        return self.limit(now) >= max(2.0 * self._top, needed)

    def _set_top(self) -> None:
        """Aim at what the store took of all that was in flight before the fall."""
        share = 1.0 - self._refused_before / max(SAMPLE, self._sent_before)
        taken = max(self._fallen_from * max(TAKEN_MIN, share), self._taken_before)
        self._top = max(min(self._fallen_from, taken), self._latency / PAUSE_SECONDS_MAX)
        self._recovery = max(RECOVERY_SECONDS, RECOVERY_REQUESTS * self._latency / self._top)

    def _taken_in_flight(self, now: float) -> float:
        """Return how many in flight the store takes by the rate of its answers, less its noise."""
        taken = self._sent - self._refused
        seen = self._window * (1.0 - math.exp((self._fell_at - now) / self._window))
        return max(0.0, taken - math.sqrt(taken)) * self._latency / seen if taken > 0.0 else 0.0

    # -- requests ----------------------------------------------------------------------------------

    def wait_seconds(self, now: float, running: int) -> float:
        """Return how long the next request must wait; infinite: until one has ended."""
        limit = self.limit(now)
        # What a limit has after the point is given to that share of the requests.
        if running >= max(1, int(limit + self._spread)):
            return math.inf
        wait = self._quiet_until - now
        return max(0.0, wait if limit >= 1.0 else max(wait, self._next_start - now))

    def start(self, now: float, running: int) -> None:
        """Count a request that starts; `running`, here and below: without it."""
        self._count(now, running)
        self._spread = (self._spread + GOLDEN_SHARE) % 1.0
        due = max(self._next_start, now - self._latency)
        self._next_start = due + self._latency / self.limit(now)

    def end(self, now: float, running: int, started: float, *, accepted: bool) -> None:
        """Count a request that has ended."""
        self._count(now, running + 1)
        if accepted:
            self.accepted_at = now
            self._latency_seen += (now - started - self._latency_seen) / SAMPLE
            if started >= self._fell_at:
                self._sent += 1.0
                self._low_sent += self._is_low(now)
                self._learn(0.0)
            else:
                self._sent_before += 1.0

    def refuse(
        self, now: float, running: int, started: float, *, waiting: bool, asked: bool
    ) -> None:
        """Fall, unless that was just now; a refusal from before the last fall makes that deeper.

        `waiting`: the limit holds requests back, or as many would run. `asked`: the store asks for
        a pause, so it means it.
        """
        self._count(now, running)
        if started < self._fell_at:
            self._sent_before += 1.0
            self._refused_before += 1.0
            self._set_top()
            return
        self._sent += 1.0
        self._refused += 1.0
        self._low_sent += self._is_low(now)
        self._low_refused += self._is_low(now)
        self._learn(1.0)
        if self._is_in_vain and not asked:
            return
        if now - self._fell_at >= self._window and (asked or self._share > TOLERATED):
            limit = self.limit(now)
            if limit >= 1.0:
                self._latency = max(self._latency_seen, LATENCY_SECONDS_MIN)
            self._fall(now, limit if waiting else min(limit, max(self._in_flight, running + 1.0)))

    def _fall(self, now: float, in_flight: float) -> None:
        self._taken_before = self._taken_in_flight(now)
        self._fell_at = now
        self._share, self._share_of = 0.0, 1.0 / TOLERATED
        self._fallen_from = in_flight
        self._sent_before, self._refused_before = self._sent, self._refused
        self._sent = self._refused = 0.0
        self._low_sent = self._low_refused = 0.0
        self._set_top()

    def _is_low(self, now: float) -> bool:
        return now - self._fell_at < self._recovery / 3.0

    @property
    def _is_in_vain(self) -> bool:
        """True if as small a share is refused after the fall as before: it is not for the rate.

        A larger one says nothing: the fall may not have been deep enough, or others did not fall.
        """
        before = self._refused_before / max(SAMPLE, self._sent_before)
        after = self._low_refused / max(SAMPLE, self._low_sent)
        return self._low_refused >= 3 and before / 2.0 <= after <= SMALL_SHARE >= before

    def _learn(self, refused: float) -> None:
        """Keep the share that is refused of the last requests since the last fall."""
        self._share_of = min(SHARE_REQUESTS, self._share_of + 1.0)
        self._share += (refused - self._share) / self._share_of

    def be_quiet(self, until: float) -> None:
        """Let nothing start before: the store asked for it."""
        self._quiet_until = max(self._quiet_until, until)

    @property
    def _window(self) -> float:
        """The seconds that are looked at, and the shortest between two falls."""
        return max(1.0, 2.0 * self._latency)

    def _count(self, now: float, running: int) -> None:
        """Let what is counted fade: it speaks of the last window."""
        kept = math.exp((self._counted_at - now) / self._window)
        self._sent *= kept
        self._refused *= kept
        self._in_flight = running + (self._in_flight - running) * kept
        self._counted_at = now


class Scope(Generic[W]):
    """A store, or the keys below one prefix: what runs, what waits, and a limit if it refuses."""

    __slots__ = ("ceiling", "queue", "refused", "running", "sent", "throttle")

    def __init__(self, ceiling: float = math.inf) -> None:
        self.ceiling = ceiling
        self.running = 0
        self.queue: deque[W] = deque()
        self.throttle: Throttle | None = None
        self.sent = self.refused = 0.0
        """Requests that were answered, and those of them that were refused; they fade."""

    def limit(self, now: float) -> float:
        """Return how many requests may be in flight."""
        return (
            self.ceiling if self.throttle is None else min(self.ceiling, self.throttle.limit(now))
        )

    def wait_seconds(self, now: float) -> float:
        """Return how long the next request must wait; infinite: until one has ended."""
        if self.running + 1 > self.ceiling:
            return math.inf
        return 0.0 if self.throttle is None else self.throttle.wait_seconds(now, self.running)

    def start(self, now: float) -> None:
        if self.throttle is not None:
            self.throttle.start(now, self.running)
        self.running += 1

    def end(self, now: float, started: float, *, accepted: bool) -> None:
        self.running -= 1
        if self.throttle is not None:
            self.throttle.end(now, self.running, started, accepted=accepted)

    def forget_recovered(self, now: float) -> bool:
        """Drop a limit that holds nothing back any more; return True if there is none."""
        needed = self.ceiling if self.queue else self.running
        if self.throttle is not None and self.throttle.is_over(now, needed):
            self.throttle = None
        return self.throttle is None


class RefusalMap(Generic[W]):
    """Finds the scope that explains a refusal: the store, or a prefix of its keys.

    What a scope with a limit of its own is refused no longer speaks against those around it.
    """

    def __init__(self, store: Scope[W], now: float) -> None:
        self.store = store
        store.sent = store.refused = 0.0
        self.limited: list[Scope[W]] = []
        """The prefixes that have a limit, and those that had one just now."""
        self._prefixes: OrderedDict[str, Scope[W]] = OrderedDict()
        self._fades_at = now + MEMORY_SECONDS
        self._looks_at = now

    def scopes(self, key: str) -> list[Scope[W]]:
        """Return the prefixes of the key that have a limit, the narrowest first, then the store."""
        if not self.limited:
            return [self.store]
        known = (self._prefixes.get(prefix) for prefix in _prefixes_of(key))
        narrow = [scope for scope in known if scope is not None and scope.throttle is not None]
        return [*reversed(narrow), self.store]

    def count(self, key: str, now: float, *, refused: bool) -> None:
        """Count a request that was answered."""
        if now >= self._fades_at:
            self._fade(now)
        for scope in self._path(key):
            scope.sent += 1.0
            scope.refused += refused

    def refuse(
        self, key: str, now: float, started: float, asked_seconds: float
    ) -> tuple[Scope[W], bool]:
        """Charge a refusal to the scope that explains it, whose limit falls; return that scope.

        False: too little is known to tell whether it is a narrower one. What the store asks for is
        then left to the request itself.
        """
        self.count(key, now, refused=True)
        path = self._path(key)
        sent = max(1.0, path[0].sent)
        scope = self._explaining(path, now)
        known = scope is not self.store or scope.refused >= 2 * SAMPLE
        if scope.throttle is None:
            in_flight = scope.running + 1.0
            if scope is not self.store:
                if scope not in self.limited:
                    self.limited.append(scope)
                in_flight = max(in_flight, self.store.running * scope.sent / sent)
            scope.throttle = Throttle(now, in_flight=in_flight, latency=now - started)
        else:
            waiting = bool(scope.queue)
            scope.throttle.refuse(
                now, scope.running, started, waiting=waiting, asked=asked_seconds > 0.0
            )
        if known and asked_seconds > 0.0:
            scope.throttle.be_quiet(now + asked_seconds)
        return scope, known

    def forget_recovered(self, now: float) -> bool:
        """Drop the limits that hold nothing back any more; return True if there are none left."""
        if now >= self._looks_at:
            self._looks_at = now + 1.0
            kept = [scope for scope in self.limited if not scope.forget_recovered(now)]
            self.limited = kept + [
                scope for scope in self.limited if scope.throttle is None and scope.queue
            ]
            self.store.forget_recovered(now)
        return self.store.throttle is None and not self.limited

    def _explaining(self, path: list[Scope[W]], now: float) -> Scope[W]:
        """Return the scope of the path to charge; what it explains is taken from the others."""
        outer = explaining = path[0]
        if len(self.limited) < LIMITED_MAX:
            for scope in path[1:]:
                if not _is_spread(scope, explaining):
                    explaining = scope
        if explaining is outer:
            return outer
        for scope in path[: path.index(explaining)]:
            scope.sent -= explaining.sent
            scope.refused -= explaining.refused
        if outer.throttle is not None and now - outer.throttle.since < MEMORY_SECONDS:
            outer.throttle = None  # It fell for what is explained now.
        return explaining

    def _path(self, key: str) -> list[Scope[W]]:
        """Return the narrowest scope of the key that has a limit, and all prefixes below it."""
        path = [self.store]
        for name in _prefixes_of(key):
            scope = self._prefixes.get(name)
            if scope is None:
                scope = self._prefixes[name] = Scope()
            else:
                self._prefixes.move_to_end(name)
                if scope.throttle is not None:
                    path.clear()
            path.append(scope)
        while len(self._prefixes) > PREFIXES_MAX:
            self._forget_one()
        return path

    def _forget_one(self) -> None:
        name, scope = next(iter(self._prefixes.items()))
        if scope.throttle is not None or scope.queue:
            self._prefixes.move_to_end(name)
        else:
            del self._prefixes[name]

    def _fade(self, now: float) -> None:
        for scope in (self.store, *self._prefixes.values()):
            scope.sent /= 2.0
            scope.refused /= 2.0
        self._fades_at = now + MEMORY_SECONDS


def _prefixes_of(key: str) -> Iterator[str]:
    """Yield the folders of a key, the outermost first, then the key."""
    end = key.find("/")
    while end >= 0:
        yield key[: end + 1]
        end = key.find("/", end + 1)
    if not key.endswith("/"):
        yield key


def _is_spread(inner: Scope[W], outer: Scope[W]) -> bool:
    """Return True unless the rest of `outer` is refused much less often than `inner` is.

    To be told, there must be SAMPLE refusals, and as many must be missing in the rest.
    """
    rest_sent, rest_refused = outer.sent - inner.sent, outer.refused - inner.refused
    return (
        inner.refused < SAMPLE
        or outer.refused * rest_sent < SAMPLE * outer.sent
        or 4.0 * rest_refused * inner.sent > inner.refused * rest_sent
    )
