"""What the driver's own listings may do now: they are held in a pause, and keep to the limits.

No worker is at work while a source is listed for a plan, or a target to reconcile, so that all that
a job may use is the listing's. A thread looks at what people ask for and what guards say, and sets
it; the listing waits before its next page, and goes on from there. A guard takes pace from a
listing as it does from workers: in requests, since a listing moves no bodies.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from noria.engine.config.jobfile import RunConfig
from noria.engine.guards import Guards, GuardsOfRun
from noria.engine.listed import LINE_SECONDS, as_line
from noria.engine.live_settings import LOOK_SECONDS, ListingTurn, LiveSettings, SettingsOfAll
from noria.engine.status import JobStatus, save_status
from noria.engine.steering.limits import Giver, LimitsInForce
from noria.manifests.counters import StoreRole
from noria.manifests.errors import StopAsked
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import outermost
from noria.workers.stores.listing import ListingShare

TURN_SECONDS: Final = 0.25
PACE_SECONDS: Final = 10.0
"""The pace that a guard finds is that of so long before."""
PLAN_STATUS_FILE: Final = "plan-status.json"
"""What the driver of a plan says while it lists; it goes with the end of the listing."""


class GuardedPace:
    """Requests a second that guards leave a listing: a share of what it had when they began.

    Pure: time comes in with each call, in seconds on any one clock.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        """When, and requests until then."""
        self._had: float | None = None
        """Requests a second when a guard began to hold it. None: none does."""

    def hear(self, requests: float, now: float, limits: LimitsInForce) -> float:
        """Say what is left, after so many requests in all. inf: any number."""
        if limits.paused:
            self._seen.clear()
        self._seen.append((now, requests))
        while now - self._seen[0][0] > PACE_SECONDS:
            self._seen.popleft()
        if limits.guard_factor >= 1.0:
            self._had = None
        elif self._had is None:
            self._had = self._rate or None
        return math.inf if self._had is None else limits.guard_factor * self._had

    @property
    def _rate(self) -> float:
        (began, before), (ended, after) = self._seen[0], self._seen[-1]
        return (after - before) / (ended - began) if ended > began else 0.0


class ListingPace:
    """One for each listing, or for several of one store; a context manager, which looks on."""

    def __init__(
        self,
        place: Path,
        run: RunConfig,
        role: StoreRole,
        *,
        guards: GuardsOfRun = Guards(),  # noqa: B008 - there are none
        says: bool = True,
        of_all: SettingsOfAll | None = None,
    ) -> None:
        """`place` is the job directory, which need not be there yet; `role` is whose requests.

        `guards` are asked from the block's beginning to its end. Those that learn what a quiet
        store is like do so before the first page, which waits for them. `says`: what is in force
        at the beginning is logged. `of_all`: of many datasets this is one, and its listing has a
        share of what all may use, which their guards have seen to. Raises JobDirectoryError if what
        was asked for is damaged.
        """
        self._settings = LiveSettings(place, run, says=says, of_all=of_all)
        self._settings.heed(guards)
        self._guards = guards
        self._learning = guards.are_there
        self._guarded = GuardedPace()
        self._requests_then = 0.0
        self._of_all = of_all
        self._turn: ListingTurn | None = None
        self.role = role
        self._root = outermost(place)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="listing pace", daemon=True)
        self.share = ListingShare()
        """What each page waits for."""
        self._heed(time.monotonic())

    @property
    def limits(self) -> LimitsInForce:
        """What is in force now."""
        return self._settings.limits

    @property
    def waits(self) -> str | None:
        """What waits, on whose pause, and how it goes on, in a line; None: nothing does."""
        pause = self.limits.paused
        if pause is None:
            return None
        match pause.giver:
            case Giver.GUARD:
                goes_on = "it goes on when the guard says so"
            case Giver.WINDOW:
                goes_on = f"it goes on by itself; `noria set {self._root} paused=false` ends it now"
            case _:
                goes_on = f"`noria resume {self._root}` lets it go on"
        return f"the listing of the {self.role} waits, paused {pause.why}: {goes_on}"

    def check(self) -> None:
        """Raise StopAsked if the driver is asked to end."""
        if self._settings.drain is not None:
            raise StopAsked(f"drained on request of {self._settings.drain.by}")

    def await_turn(self) -> None:
        """Wait until nothing pauses the job any more. Raises StopAsked."""
        while self.limits.paused:
            self.check()
            time.sleep(TURN_SECONDS)

    def __enter__(self) -> Self:
        if self._of_all is not None:
            self._turn = self._of_all.begin_listing(self.role)
            self._heed(time.monotonic())
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._guards.__exit__(kind, error, trace)
        if self._turn is not None:
            self._turn.close()

    def look(self, now: float) -> None:
        """Set what is in force now; the thread does so again and again."""
        requests = self.share.requests.use().used_bytes
        quiet = self.limits.paused is not None and requests == self._requests_then
        self._requests_then = requests
        self._settings.look(now, quiet=quiet)
        self._heed(now)

    def _look_on(self) -> None:
        try:
            self._guards.begin()
        finally:  # or the first page would wait for ever
            self._learning = False
        looked = time.monotonic()
        self._heed(looked)
        while not self._closed.wait(LOOK_SECONDS if self._turn is None else TURN_SECONDS):
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS or self._turn is None:
                looked = now
                self.look(now)
            else:
                self._heed(now)

    def _heed(self, now: float) -> None:
        limits, share = self._settings.limits, self.share
        used = share.requests.use()
        bandwidth = limits.rate("bandwidth")
        requests = limits.rate(f"{self.role}_requests_per_second")
        if self._of_all is None:
            requests = min(requests, self._guarded.hear(used.used_bytes, now, limits))
        elif self._turn is None:
            bandwidth = requests = 0.0
        else:
            most_bytes, most_requests = self._turn.exchange(share.bandwidth.use(), used)
            bandwidth, requests = min(bandwidth, most_bytes), min(requests, most_requests)
        held = limits.paused is not None or self._learning
        share.requests.set_share(0.0 if held else requests)
        share.bandwidth.set_share(bandwidth)


@dataclass(frozen=True, slots=True)
class ToldStatus:
    """Where a status says how far a listing is."""

    directory: JobDirectory
    status: JobStatus
    """All but how far it is."""
    name: str
    """Of the file, which goes with the end of the listing."""


class ListingTeller:
    """Tells how far a listing is, and what it waits for: as lines, and to `noria status`."""

    def __init__(
        self, pace: ListingPace, say: Callable[[str], None], told: ToldStatus | None = None
    ) -> None:
        """`told` None: nobody's status is told."""
        self._pace = pace
        self._say = say
        self._say_line = as_line(say, pace.role)
        self._told = told
        self._line_at = time.monotonic()
        self._listed_then = 0
        self._waits: str | None = None

    def tell(self, listed: int, rate: float) -> None:
        """So many are listed, and so many come each second. Raises StopAsked."""
        self._pace.check()
        if self._told is not None:
            status = replace(
                self._told.status,
                updated_seconds=time.time(),
                listed=listed,
                listed_per_second=rate,
                in_force=self._pace.limits,
            )
            save_status(self._told.directory, status, self._told.name)
        waits = self._pace.waits
        if waits is not None and waits != self._waits:
            self._say(waits)
        self._waits = waits
        seconds = time.monotonic() - self._line_at
        if seconds >= LINE_SECONDS:
            if listed > self._listed_then:
                self._say_line(listed, (listed - self._listed_then) / seconds)
            self._line_at, self._listed_then = time.monotonic(), listed

    def close(self) -> None:
        """The listing has ended. A repeat does nothing."""
        if self._told is not None:
            self._told.directory.discard(self._told.name)
