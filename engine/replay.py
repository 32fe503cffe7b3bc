"""What earlier runs have settled: the seals, read once. There may be hundreds of thousands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from noria.engine.scheduler.events import SettledSpan
from noria.engine.totals import Totals
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import read_seals_by_shard
from noria.manifests.model import LeaseKind

_UPLOAD = re.compile(r"uploads/([0-9]{8,10})/([0-9]{6,9})\.json")
"""As upload_name() of manifests/job/directory.py writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What a scheduler has to know of the seals that count."""

    spans: Sequence[SettledSpan] = ()
    generations: Mapping[int, int] = field(default_factory=dict)
    """PARTS shard -> its newest generation, where that is not 0."""


def enter_seals(directory: JobDirectory, totals: Totals) -> Sealed:
    """Read the seals of the job; those that count are entered in the books."""
    spans = []
    generations = _upload_generations(directory)
    for seals in read_seals_by_shard(directory):
        shard = seals[0].shard
        # A generation whose source was gone opens no upload, and is sealed all the same.
        newest = max(generations.get(shard, 0), *(sealed.generation for sealed in seals))
        if newest:
            generations[shard] = newest
        for sealed in seals:
            # Parts of an upload that was lost do not count.
            if sealed.kind is LeaseKind.OBJECTS or sealed.generation == newest:
                totals.add_seal(sealed)
                spans.append(
                    SettledSpan(shard=shard, kind=sealed.kind, first=sealed.first, end=sealed.end)
                )
    return Sealed(spans=spans, generations=generations)


def _upload_generations(directory: JobDirectory) -> dict[int, int]:
    """PARTS shard -> the newest generation of which an upload was opened."""
    newest: dict[int, int] = {}
    # Other files that lie there are not ours, and say nothing.
    for found in filter(None, map(_UPLOAD.fullmatch, directory.names("uploads"))):
        shard, generation = map(int, found.groups())
        newest[shard] = max(newest.get(shard, 0), generation)
    return newest
