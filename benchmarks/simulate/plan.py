"""The shards of a simulated job: those of a frozen manifest, or such as the planner would cut."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import pyarrow as pa

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import read_job_file
from noria.engine.planning import open_prepared
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import ShardKind, ShardPlan
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import fit_parts, largest_object, suitable_part_bytes
from noria.manifests.plan.providers import known_name_rules, limits_for
from noria.manifests.plan.shards import MIN_SHARD_BYTES, Cut, cut_shards, shard_caps

SAMPLE_OBJECTS = 1_000_000
"""So many sizes are drawn and cut; a larger job is made of its shards, each drawn as often."""
SIZE_SIGMA = 1.8
"""Of the logarithm of sizes. With a mean of 10 MB, half of all objects are below 2 MB, and one in
a hundred thousand is above 4 GiB."""
SHARDS_MOST = 1_000_000
"""A kilobyte of memory each, and as many leases."""
PROVIDER = "aws"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPlan:
    """What is to be moved."""

    shards: Sequence[ShardPlan]
    objects: int
    bytes: int
    config: JobConfig | None = None
    """Of the job file that was planned."""


def planned_job(path: Path) -> SimulatedPlan:
    """The frozen plan of a job file, or of a job directory.

    Raises ConfigurationError if there is none yet.
    """
    if path.is_dir():
        root = path
    else:
        config = read_job_file(path)
        root = path.with_suffix("")
        if config.directory is not None:
            root = path.parent / config.directory
    if not JobDirectory.exists(root):
        raise ConfigurationError(
            f"{path} is not planned yet; run `noria plan {path}`, or give --bytes and --objects"
        )
    prepared = open_prepared(root)
    manifest = prepared.manifest
    shards = manifest.shards()
    if not shards:
        raise ConfigurationError(f"{path} has nothing to move; simulate another job")
    return SimulatedPlan(
        shards=shards,
        objects=manifest.objects_to_move,
        bytes=manifest.bytes_to_move,
        config=prepared.config,
    )


def made_up_job(
    total_bytes: int, objects: int, target_shards: int | None, chance: random.Random
) -> SimulatedPlan:
    """Objects of log-normal sizes, cut into shards as the planner cuts them.

    Totals are met to about one percent. Raises ConfigurationError for sizes that no target takes.
    """
    options = _options(total_bytes, target_shards)
    mean = total_bytes / objects
    most = largest_object(
        options.limits, part_bytes=options.part_bytes, chunk_bytes=options.chunk_bytes
    )
    if mean > most:
        raise ConfigurationError(
            f"objects of {mean:.0f} bytes on average are larger than any target takes; "
            "raise --objects"
        )
    _check_number(total_bytes, objects, options)
    caps = shard_caps(options, total_bytes=total_bytes, total_objects=objects)
    sizes = _Sizes(mean, caps.huge_bytes, most, chance)
    cuts = _drawn(cut_shards(sizes.sample(min(objects, SAMPLE_OBJECTS)), caps, last=True), objects)
    shards: list[ShardPlan] = []
    for cut in cuts:
        size = cut.bytes if cut.kind is ShardKind.OBJECTS else sizes.huge()
        shards.append(_shard(len(shards), cut, size, options))
    return SimulatedPlan(shards=shards, objects=objects, bytes=sum(shard.bytes for shard in shards))


def _options(total_bytes: int, target_shards: int | None) -> PlanOptions:
    options = PlanOptions(limits=limits_for(PROVIDER), rules=known_name_rules(PROVIDER))
    part_bytes = suitable_part_bytes(total_bytes, chunk_bytes=options.chunk_bytes)
    options = replace(options, part_bytes=part_bytes)
    if target_shards is None:
        return options
    each = max(MIN_SHARD_BYTES, -(-total_bytes // target_shards))
    return replace(options, shard_bytes=each, shard_objects=1_000_000, target_shards=target_shards)


def _check_number(total_bytes: int, objects: int, options: PlanOptions) -> None:
    number = max(total_bytes // options.shard_bytes, objects // options.shard_objects)
    if number > SHARDS_MOST:
        raise ConfigurationError(
            f"{number} shards are more than this simulates; ask for fewer and larger ones with "
            f"--shards, up to {SHARDS_MOST}"
        )


class _Sizes:
    """Log-normal sizes of a given mean.

    Huge ones are drawn again for each of their shards: a sample has too few of them to represent
    all.
    """

    def __init__(self, mean: float, huge_bytes: int, most: int, chance: random.Random) -> None:
        self._mu = math.log(max(1.0, mean)) - SIZE_SIGMA**2 / 2
        self._most = most
        self._chance = chance
        self._huge_bytes = huge_bytes
        self._below_huge = NormalDist().cdf((math.log(huge_bytes) - self._mu) / SIZE_SIGMA)

    def sample(self, objects: int) -> pa.Array:
        draw, most = self._chance.lognormvariate, self._most
        return pa.array(
            array("q", (min(most, int(draw(self._mu, SIZE_SIGMA))) for _ in range(objects)))
        )

    def huge(self) -> int:
        quantile = self._below_huge + (1 - self._below_huge) * self._chance.random()
        z = NormalDist().inv_cdf(min(quantile, 1 - 1e-12))
        drawn = int(math.exp(self._mu + SIZE_SIGMA * z))
        return min(self._most, max(self._huge_bytes + 1, drawn))


def _drawn(cuts: Sequence[Cut], objects: int) -> Iterator[Cut]:
    """The cuts of the sample, over and over, until there are enough objects."""
    missing = objects
    while missing > 0:
        for cut in cuts:
            if missing <= 0:
                return
            missing -= cut.end - cut.first
            yield cut


def _shard(number: int, cut: Cut, size: int, options: PlanOptions) -> ShardPlan:
    """As manifests/manifest/writer.py writes it down."""
    units = per_lease = cut.end - cut.first
    if cut.kind is ShardKind.PARTS:
        fitted = fit_parts(
            size, options.limits, part_bytes=options.part_bytes, chunk_bytes=options.chunk_bytes
        )
        units = fitted.parts
        per_lease = min(units, max(1, options.segment_bytes // fitted.part_bytes))
    return ShardPlan(
        shard=number, kind=cut.kind, units=units, bytes=size, units_per_lease=per_lease
    )
