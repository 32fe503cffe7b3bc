"""The options of a plan: what they mean, their units and defaults, and what may go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from noria.manifests.errors import ConfigurationError
from noria.manifests.plan.providers import GIB, MIB, NameRules, ProviderLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """How entries become shards and parts; stored in manifest.json for the workers."""

    limits: ProviderLimits
    rules: NameRules
    target_prefix: str = ""
    """Comes before every target_key; its length and its slashes count."""
    names: Literal["refuse", "escape"] = "refuse"
    """What becomes of a key that the target cannot hold: left out with its reason, or renamed."""
    part_bytes: int = 64 * MIB
    """Objects that do not go in one PUT go in parts of this size, or larger."""
    put_bytes: int | None = None
    """Objects up to this size go in one PUT. None: up to part_bytes."""
    chunk_bytes: int = 8 * MIB
    """Unit of hashing; every part but the last is a multiple of it."""
    segment_bytes: int = 4 * GIB
    """Larger objects have a shard of their own; one lease takes parts of about this many bytes."""
    shard_bytes: int = 64 * GIB
    """Most bytes of a shard of objects."""
    shard_objects: int = 100_000
    """Most rows of a shard."""
    target_shards: int = 1
    """Cut a small job into at least about this many shards, so that every worker gets some."""

    def __post_init__(self) -> None:
        sizes = (self.part_bytes, self.chunk_bytes, self.segment_bytes, self.shard_bytes)
        if min(*sizes, self.shard_objects, self.target_shards) < 1:
            raise ConfigurationError("every size and count of a plan is at least 1")
        if self.part_bytes % self.chunk_bytes:
            raise ConfigurationError(
                f"part_bytes {self.part_bytes} is not a multiple of chunk_bytes {self.chunk_bytes}"
            )
        if self.names not in ("refuse", "escape"):
            raise ConfigurationError(f"names is 'refuse' or 'escape', not {self.names!r}")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> PlanOptions:
        limits = {**plan["limits"], "sources": tuple(plan["limits"]["sources"])}
        reserved = tuple(plan["rules"]["reserved_segments"])
        rules = {**plan["rules"], "reserved_segments": reserved}
        return cls(**{**plan, "limits": ProviderLimits(**limits), "rules": NameRules(**rules)})
