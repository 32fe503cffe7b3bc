"""What a plan found, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from noria.engine.attribute_look import AttributeLook
from noria.engine.planning import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReport:
    """What a job will move, and what it cannot. A plan is frozen: a repeat finds the same."""

    job: str
    """The id of the job."""
    directory: Path
    digest: str
    """Of the manifest: two plans of the same entries have the same."""
    objects: int
    """Entries of the manifest."""
    bytes: int
    objects_to_move: int
    bytes_to_move: int
    left_out: Mapping[str, int]
    """Reason -> entries of the manifest that will not move."""
    passed_over: Mapping[str, int]
    """Cause -> entries of the inventory that are not in the manifest."""
    attributes: AttributeLook
    """What becomes of metadata, headers and tags of up to 256 objects, spread over all."""
    shards: int
    provider: str
    """Of the target, as Noria knows its limits."""
    checksum: str
    """What the target verifies as it takes an object in."""
    target_was_empty: bool
    canaries_left: int
    """Small objects of the probe that the target refused to delete."""

    @property
    def exit_code(self) -> int:
        """Of `noria plan`: 0. What ends otherwise is raised."""
        return 0

    @classmethod
    def of(cls, prepared: Prepared, attributes: AttributeLook) -> Self:
        manifest, facts = prepared.manifest, prepared.facts
        return cls(
            job=facts.job_id,
            directory=prepared.directory.root,
            digest=manifest.digest,
            objects=manifest.objects,
            bytes=manifest.bytes,
            objects_to_move=manifest.objects_to_move,
            bytes_to_move=manifest.bytes_to_move,
            left_out={
                reason: counts["objects"] for reason, counts in manifest.facts["reasons"].items()
            },
            passed_over=manifest.passed_over,
            attributes=attributes,
            shards=manifest.shard_count,
            provider=facts.provider,
            checksum=facts.checksum.value,
            target_was_empty=facts.target_was_empty,
            canaries_left=prepared.removal.finish(),
        )
