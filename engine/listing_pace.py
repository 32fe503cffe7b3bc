"""What the driver's own listings may do now: they are held in a pause, and keep to the limits.

No worker is at work while a source is listed for a plan, or a target to reconcile, so that all that
a job may use is the listing's. A thread looks at what people ask for, and sets it; the listing
waits before its next page, and goes on from there. Guards do not hold a listing: what they compare
is read while bodies go by.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from noria.engine.config.jobfile import RunConfig
from noria.engine.listed import LINE_SECONDS, as_line
from noria.engine.live_settings import LOOK_SECONDS, ListingTurn, LiveSettings, SettingsOfAll
from noria.engine.status import JobStatus, Phase, save_status
from noria.engine.steering.limits import LimitsInForce
from noria.manifests.counters import StoreRole
from noria.manifests.errors import StopAsked
from noria.manifests.job.directory import JobDirectory
from noria.workers.stores.listing import ListingShare

TURN_SECONDS: Final = 0.25
PLAN_STATUS_FILE: Final = "plan-status.json"
"""What the driver of a plan says while it lists; it goes with the end of the listing."""


class ListingPace:
    """One for each listing, or for several of one store; a context manager, which looks on."""

    def __init__(
        self,
        place: Path,
        run: RunConfig,
        role: StoreRole,
        *,
        says: bool = True,
        of_all: SettingsOfAll | None = None,
    ) -> None:
        """`place` is the job directory, which need not be there yet; `role` is whose requests.

        `says`: what is in force at the beginning is logged. `of_all`: of many datasets this is one,
        and its listing has a share of what all may use. Raises JobDirectoryError if what was asked
        for is damaged.
        """
        self._settings = LiveSettings(place, run, says=says, of_all=of_all)
        self._role = role
        self._of_all = of_all
        self._turn: ListingTurn | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="listing pace", daemon=True)
        self.share = ListingShare()
        """What each page waits for."""
        self._heed()

    @property
    def limits(self) -> LimitsInForce:
        """What is in force now."""
        return self._settings.limits

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
            self._turn = self._of_all.begin_listing(self._role)
            self._heed()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        if self._turn is not None:
            self._turn.close()

    def _look_on(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(LOOK_SECONDS if self._turn is None else TURN_SECONDS):
            if time.monotonic() - looked >= LOOK_SECONDS or self._turn is None:
                looked = time.monotonic()
                self._settings.look(looked, quiet=False)
            self._heed()

    def _heed(self) -> None:
        limits, share = self._settings.limits, self.share
        bandwidth = requests = math.inf if self._of_all is None else 0.0
        if self._turn is not None:
            bandwidth, requests = self._turn.exchange(share.bandwidth.use(), share.requests.use())
        own = limits.rate(f"{self._role}_requests_per_second")
        share.requests.set_share(0.0 if limits.paused else min(own, requests))
        share.bandwidth.set_share(min(limits.rate("bandwidth"), bandwidth))


class PlanTeller:
    """Tells how far the listing of a source is: as lines and, for a plan, to `noria status`."""

    def __init__(
        self,
        pace: ListingPace,
        say: Callable[[str], None],
        *,
        directory: JobDirectory | None = None,
        job_id: str = "",
    ) -> None:
        """`directory` None: nobody's status is told."""
        self._pace = pace
        self._say_line = as_line(say, "source")
        self._directory = directory
        self._job_id = job_id
        self._line_at = time.monotonic()
        self._listed_then = 0

    def tell(self, listed: int, rate: float) -> None:
        """So many are listed, and so many come each second. Raises StopAsked."""
        self._pace.check()
        if self._directory is not None:
            status = JobStatus(
                job=self._job_id,
                phase=Phase.PLANNING,
                updated_seconds=time.time(),
                listed=listed,
                listed_per_second=rate,
                in_force=self._pace.limits,
            )
            save_status(self._directory, status, PLAN_STATUS_FILE)
        seconds = time.monotonic() - self._line_at
        if seconds >= LINE_SECONDS:
            if listed > self._listed_then:
                self._say_line(listed, (listed - self._listed_then) / seconds)
            self._line_at, self._listed_then = time.monotonic(), listed

    def close(self) -> None:
        """The listing has ended. A repeat does nothing."""
        if self._directory is not None:
            self._directory.discard(PLAN_STATUS_FILE)
