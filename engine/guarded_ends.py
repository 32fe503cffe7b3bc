"""The guards of a job as its file has them, with what they read at its ends."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Final, Protocol

from noria.engine.config.jobfile import RunConfig
from noria.engine.config.stores import open_end
from noria.engine.guards import READ_BYTES, Guards, GuardsOfRun, Read, in_turn, make_guard
from noria.engine.live_settings import SettingsOfAll
from noria.engine.planning import Prepared
from noria.manifests.counters import StoreRole
from noria.manifests.model import ObjectEntry
from noria.workers.stores.inspection import InspectedStore

MOST_OBJECTS: Final = 16
"""That are read in turn: of as many shards, spread over all."""
ENTRIES_PER_SHARD: Final = 64
"""Of these, the first that is not empty is read."""


class RunOfMany(SettingsOfAll, Protocol):
    """A run of many datasets, as one of them sees it."""

    def guards_for(self, prepared: Prepared, *, moving: bool) -> GuardsOfRun:
        """The part that one of them has in the guards of all."""


def guards_of(prepared: Prepared, run: RunConfig, *, moving: bool) -> Guards:
    """The guards of a run; a verification reads the target alone. Nothing is asked yet."""
    made = []
    if moving and run.source_guard is not None:
        reads = in_turn(reads_of(prepared, StoreRole.SOURCE))
        made.append(make_guard(StoreRole.SOURCE, run.source_guard, reads))
    if run.target_guard is not None:
        looks = in_turn(reads_of(prepared, StoreRole.TARGET))
        made.append(make_guard(StoreRole.TARGET, run.target_guard, looks))
    return Guards(made)


def reads_of(prepared: Prepared, role: StoreRole) -> list[Read]:
    """Small reads of some objects of a job at one of its ends, MOST_OBJECTS at most."""
    config, facts = prepared.config, prepared.facts
    if role is StoreRole.SOURCE:
        source = open_end(config.source, read_only=True)
        return [
            partial(_read, source, facts.source_prefix + entry.key, entry.size)
            for entry in _some_entries(prepared)
        ]
    target = open_end(config.target)
    return [
        partial(_look, target, facts.target_prefix + entry.target_key)
        for entry in _some_entries(prepared)
    ]


def _some_entries(prepared: Prepared) -> list[ObjectEntry]:
    manifest = prepared.manifest
    shards = [each.shard for each in manifest.shards()]
    chosen = shards[:: max(1, len(shards) // MOST_OBJECTS)][:MOST_OBJECTS]
    found = []
    for shard in chosen:
        entries = list(itertools.islice(manifest.entries(shard, 0, ENTRIES_PER_SHARD), 64))
        found.append(next((each for each in entries if each.size), entries[0]))
    return found


def _read(store: InspectedStore, key: str, size: int) -> None:
    if size:
        into = memoryview(bytearray(min(READ_BYTES, size)))
        store.read_range(key, offset=0, into=into, etag=None)
    else:
        store.head(key)


def _look(store: InspectedStore, key: str) -> None:
    store.head(key)
