"""The guards of a run of many datasets: one for each store, whichever of them are at work.

A store is an account of Azure, an endpoint of S3, or the machine's folders. What is read in turn is
of the datasets that are at work there, so that a thousand of them cost what one does.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Final, Self

from noria.engine.config.jobfile import EndConfig, GuardConfig, RunConfig
from noria.engine.config.stores import service_url
from noria.engine.guarded_ends import MOST_OBJECTS, reads_of
from noria.engine.guards import Read, StoreGuard, make_guard
from noria.engine.listing_guards import listing_read
from noria.engine.planning import Prepared
from noria.engine.steering.guard import GuardState
from noria.manifests.counters import StoreRole

STORES_MOST: Final = 64
"""Guards of stores at which nothing is at work are kept up to this number, for what comes next."""

_Key = tuple[StoreRole, str, bool]
"""An end, its store, and whether it is listed: a guard that times what is read for a listing learns
by itself how long that takes."""
ReadsOf = Callable[[StoreRole], list[Read]]


class SharedGuards:
    """All guards of one run. Thread-safe; to be closed."""

    def __init__(self, run: RunConfig) -> None:
        self._configs: dict[StoreRole, GuardConfig] = {
            role: config
            for role, config in (
                (StoreRole.SOURCE, run.source_guard),
                (StoreRole.TARGET, run.target_guard),
            )
            if config is not None
        }
        self._guards: dict[_Key, _SharedGuard] = {}
        self._lock = threading.Lock()

    def look(self, now: float, *, quiet: bool) -> Mapping[str, GuardState]:
        """End -> what the guards of its stores say: the one that leaves the least.

        One of a store at which nothing is at work has no say.
        """
        found: dict[str, GuardState] = {}
        with self._lock:
            guards = list(self._guards.items())
        for (role, *_), shared in guards:
            state = shared.look(now, quiet=quiet)
            if state is not None and (
                role.value not in found or state.factor < found[role.value].factor
            ):
                found[role.value] = state
        return found

    def of(self, prepared: Prepared, *, moving: bool) -> DatasetGuards:
        """The part of one dataset; a verification reads the target alone. Nothing is asked yet."""
        ends = {StoreRole.TARGET: prepared.config.target}
        if moving:
            ends[StoreRole.SOURCE] = prepared.config.source
        return self._part(ends, partial(reads_of, prepared), of_listing=False)

    def of_listing(self, source: EndConfig) -> DatasetGuards:
        """The part of one whose source is listed, before any object of it is known by name."""
        return self._part(
            {StoreRole.SOURCE: source}, lambda role: [listing_read(source)], of_listing=True
        )

    def _part(
        self, ends: Mapping[StoreRole, EndConfig], reads: ReadsOf, *, of_listing: bool
    ) -> DatasetGuards:
        mine = []
        for role, config in self._configs.items():
            if role not in ends:
                continue
            key = _key(role, ends[role], config, of_listing=of_listing)
            with self._lock:
                shared = self._guards.setdefault(key, _SharedGuard(role, config))
                shared.users += 1
            mine.append((shared, role))
        return DatasetGuards(self, reads, mine)

    def leave(self, shared: _SharedGuard) -> None:
        """One of the datasets that a guard is for is not at work any more."""
        with self._lock:
            shared.users -= 1
            unused = [key for key, each in self._guards.items() if not each.users]
            for key in unused[: max(0, len(self._guards) - STORES_MOST)]:
                self._guards.pop(key).close()

    def close(self) -> None:
        with self._lock:
            for shared in self._guards.values():
                shared.close()


class DatasetGuards:
    """See guards.GuardsOfRun: what all guards come to is heeded by the run, not by one dataset."""

    def __init__(
        self, guards: SharedGuards, reads: ReadsOf, mine: list[tuple[_SharedGuard, StoreRole]]
    ) -> None:
        self._guards = guards
        self._reads = reads
        self._mine = mine

    @property
    def are_there(self) -> bool:
        return bool(self._mine)

    def begin(self) -> None:
        """The first dataset at a store waits until it is known what a quiet store is like."""
        for shared, role in self._mine:
            shared.begin(partial(self._reads, role))

    def look(self, now: float, *, quiet: bool) -> Mapping[str, GuardState]:
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for shared, _ in self._mine:
            self._guards.leave(shared)


class _SharedGuard:
    """The guard of one store, and what it reads."""

    def __init__(self, role: StoreRole, config: GuardConfig) -> None:
        self.users = 0
        self._reads: deque[Read] = deque(maxlen=MOST_OBJECTS)
        self._asks_store = config.latency_factor is not None
        self._guard: StoreGuard = make_guard(role, config, self._in_turn())
        self._is_begun = False
        self._is_closed = False
        self._lock = threading.Lock()

    def begin(self, reads_of_end: Callable[[], list[Read]]) -> None:
        reads = reads_of_end() if self._asks_store else []
        with self._lock:
            # The share of one dataset is what others leave: the oldest give way.
            self._reads.extend(reads)
            if not self._is_begun and not self._is_closed:
                self._is_begun = True
                self._guard.begin()

    def look(self, now: float, *, quiet: bool) -> GuardState | None:
        """None: it was not asked yet, or has no say."""
        if not self._is_begun:
            return None
        if not self.users:
            self._guard.pass_over(now)
            return None
        return self._guard.look(now, quiet=quiet)

    def close(self) -> None:
        self._is_closed = True
        self._guard.close()

    def _in_turn(self) -> Iterator[Read]:
        while True:
            self._reads.rotate(-1)
            yield self._reads[-1]


def _key(role: StoreRole, end: EndConfig, config: GuardConfig, *, of_listing: bool) -> _Key:
    """A command or a query is of no store in particular, and says the same of all that is done."""
    if config.latency_factor is None:
        return role, "", False
    url = service_url(end, read_only=role is StoreRole.SOURCE)
    return role, f"{end.location.scheme} {url or ''}", of_listing
