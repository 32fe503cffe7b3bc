"""What earlier runs have settled: the seals, read once. There may be hundreds of thousands."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from noria.engine.scheduler.events import SettledSpan
from noria.engine.totals import Totals
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.reopening import reopen
from noria.manifests.job.seals import Seal, read_seals_by_shard
from noria.manifests.job.uploads import upload_generations
from noria.manifests.model import LeaseKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a scheduler has to know of the seals that count."""

    spans: Sequence[SettledSpan] = ()
    generations: Mapping[int, int] = field(default_factory=dict)
    """PARTS shard -> its newest generation, if that is not 0."""
    reopened: int = 0
    """Entries that had an end, and are not settled any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrial:
    """Which entries are tried again."""

    causes: Collection[str]
    """Of failures."""
    keys: pa.Array | None = None
    """Names of entries, whatever their end was."""
    attempt: int
    """Older than those to come."""

    def reopen(self, directory: JobDirectory, sealed: Seal) -> int:
        return reopen(directory, sealed, self.attempt, self.causes, self.keys)


def enter_seals(directory: JobDirectory, totals: Totals, retrial: Retrial | None = None) -> Sealed:
    """Read the seals of the job; those that count are added to `totals`.

    Those that hold entries to be tried again are taken back first.
    """
    spans, reopened = [], 0
    generations = upload_generations(directory)
    for seals in read_seals_by_shard(directory):
        shard = seals[0].shard
        # A generation whose source was gone opens no upload, and is sealed all the same.
        newest = max(generations.get(shard, 0), *(sealed.generation for sealed in seals))
        if newest:
            generations[shard] = newest
        # An object that is assembled takes the bytes of its parts back.
        for sealed in sorted(seals, key=lambda sealed: sealed.kind is LeaseKind.ASSEMBLE):
            # Parts of an upload that was lost do not count.
            if sealed.kind is LeaseKind.OBJECTS or sealed.generation == newest:
                again = retrial.reopen(directory, sealed) if retrial else 0
                reopened += again
                if again:
                    continue
                totals.add_seal(sealed)
                spans.append(
                    SettledSpan(shard=shard, kind=sealed.kind, first=sealed.first, end=sealed.end)
                )
    return Sealed(spans=spans, generations=generations, reopened=reopened)
