"""What becomes of the attributes of some objects at the target, told before the first byte moves.

Most listings state few attributes, and to ask for those of every object would take as many requests
as the move itself. So objects spread over the whole manifest are asked for; every object is looked
at again when it moves, and its receipt says what became of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.engine.config.stores import open_end
from noria.engine.worker_factory import attribute_policy
from noria.engine.worker_spec import JobFacts, WorkerEnd, WorkerSettings
from noria.manifests.errors import AttributesRefused, NoriaError
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import Treatment
from noria.workers.carriage import AttributePolicy, fit_attributes
from noria.workers.stores.paced import PacedStore
from noria.workers.tags import SourceTags

if TYPE_CHECKING:
    from noria.engine.config.jobfile import JobConfig, RunConfig
    from noria.engine.planning import Prepared

OBJECTS: Final = 256
SHARDS: Final = 8
STREAMS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeLook:
    """What was found."""

    looked_at: int = 0
    """Objects that were asked for and are there."""
    refused: int = 0
    """Those that would not move under the policies of the job."""
    changes: Mapping[str, int] = field(default_factory=dict)
    """AttributeChange -> objects that land so, or, if they are refused, would if the policy was to
    leave what the target cannot hold."""

    def __add__(self, other: AttributeLook) -> AttributeLook:
        return AttributeLook(
            looked_at=self.looked_at + other.looked_at,
            refused=self.refused + other.refused,
            changes=dict(sorted((Counter(self.changes) + Counter(other.changes)).items())),
        )


def look_at_attributes(prepared: Prepared, run: RunConfig) -> AttributeLook:
    """Ask the source for up to OBJECTS of the job's objects; every one, if it has no more.

    `run` has the policies, which may change from run to run.
    An object that cannot be asked for just now counts as not looked at.
    """
    config = prepared.config.model_copy(update={"run": run})
    provider = prepared.target.provider
    return look_at_rows(config, prepared.facts, prepared.manifest, provider)


def look_at_rows(
    config: JobConfig, facts: JobFacts, manifest: Manifest, provider: str
) -> AttributeLook:
    """As look_at_attributes(), for a manifest that no job has. `provider` is the target's."""
    settings = WorkerSettings.of(config.plan, config.run)
    policy = attribute_policy(settings, WorkerEnd.of(config.target), facts)
    source = PacedStore(inner=open_end(config.source, read_only=True))
    look = partial(_look, source, provider, policy, SourceTags())
    rows = _spread(manifest)
    try:
        with ThreadPoolExecutor(STREAMS) as streams:
            found = list(streams.map(look, (facts.source_prefix + key for key in rows)))
    finally:
        source.close()
    return sum(found, AttributeLook())


def _spread(manifest: Manifest) -> Iterator[str]:
    """Names of objects that move, below the source's prefix."""
    shards = _evenly(range(len(manifest.shards())), SHARDS)
    each = -(-OBJECTS // max(1, len(shards)))
    for shard in shards:
        rows = manifest.read_shard(shard)
        keys = rows["key"].filter(pc.is_null(rows["reason"]))
        yield from keys.take(pa.array(_evenly(range(len(keys)), each), pa.int64())).to_pylist()


def _evenly(numbers: range, at_most: int) -> list[int]:
    count = min(len(numbers), at_most)
    return [numbers[number * len(numbers) // count] for number in range(count)]


def _look(
    source: PacedStore, provider: str, policy: AttributePolicy, tags: SourceTags, name: str
) -> AttributeLook:
    try:
        head = source.head(name)
        if head is None:
            return AttributeLook()
        read, unreadable = tags.read(source, name, head, Treatment.LEAVE, version_id=None)
    except NoriaError:
        return AttributeLook()
    attributes = replace(head.attributes, tags=read)
    refused = int(policy.lossless and unreadable is not None)
    try:
        changes = fit_attributes(attributes, provider, policy, key=name).changes
    except AttributesRefused:
        refused = 1
        changes = fit_attributes(attributes, provider, policy.without_refusals(), key=name).changes
    return AttributeLook(looked_at=1, refused=refused, changes=_counted(changes, unreadable))


def _counted(changes: Iterable[str], unreadable: str | None) -> dict[str, int]:
    return dict.fromkeys(
        [*map(str, changes), *([] if unreadable is None else [str(unreadable)])], 1
    )
