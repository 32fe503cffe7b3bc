"""Seals: which results count.

The driver, which alone knows whose attempt is live, seals a finished lease: a small put-if-absent
file that names the result and its SHA-256. What is sealed counts; nothing else does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath

from pydantic import TypeAdapter

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import (
    LeaseKind,
    LeaseResult,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The one word that counts on units [first, end) of a shard."""

    shard: int
    kind: LeaseKind
    first: int
    end: int
    attempt: int
    generation: int
    result_name: str
    result_sha256: str
    summary: Mapping[str, int]


UNITS_MAX = 2**31 - 1
"""Rows and parts of a shard are counted in int32."""
_SEALS = TypeAdapter(Seal)


def seal(directory: JobDirectory, result: LeaseResult, area: str = "sealed") -> Seal:
    """Write the seal of an accepted result; of two, the first stands. Returns the one that
    stands."""
    name = f"{area}/{_seal_name(result)}"
    values = {
        item.name: getattr(result, item.name) for item in fields(Seal) if item.name != "summary"
    }
    values["summary"] = dict(result.summary)
    text = json.dumps(values, sort_keys=True) + "\n"
    if directory.write_once(name, text.encode()):
        return _seal(name, text.encode())
    existing = directory.read(name)
    assert existing is not None, "a seal never disappears"
    return _seal(name, existing)


def read_seals(
    directory: JobDirectory, area: str = "sealed", shard: int | None = None
) -> Iterator[Seal]:
    """Every seal of the job, or of one shard, in order."""
    below = area if shard is None else f"{area}/{shard:08d}"
    for name in directory.names(below):
        data = directory.read(name) if name.endswith(".json") else None
        if data is not None:
            yield _seal(name, data)


def read_seals_by_shard(directory: JobDirectory) -> Iterator[list[Seal]]:
    """Every seal of the job, those of a shard together."""
    group: list[Seal] = []
    for sealed in read_seals(directory):
        if group and group[-1].shard != sealed.shard:
            yield group
            group = []
        group.append(sealed)
    if group:
        yield group


def _seal(name: str, data: bytes) -> Seal:
    try:
        sealed = _SEALS.validate_json(data, strict=True)
    except ValueError:
        sealed = None
    if sealed is None or not _is_sound(sealed) or not name.endswith(f"/{_seal_name(sealed)}"):
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job")
    return sealed


def _seal_name(of: LeaseResult | Seal) -> str:
    """Below the area of the seals."""
    return f"{of.shard:08d}/{of.kind}-{of.generation:06d}-{of.first:08d}.json"


def _is_sound(sealed: Seal) -> bool:
    numbers = (sealed.shard, sealed.attempt, sealed.generation, *sealed.summary.values())
    result = PurePosixPath(sealed.result_name)
    inside = not result.is_absolute() and ".." not in result.parts
    return inside and min(numbers) >= 0 and 0 <= sealed.first <= sealed.end <= UNITS_MAX
