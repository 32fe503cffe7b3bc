"""Seals: which results count.

The driver, which alone knows whose attempt is live, seals a finished lease: a small put-if-absent
file that names the result and its SHA-256. What is sealed counts; nothing else does.

A seal carries the SHA-256 of its own fields, so that damage to it shows as soon as it is read.
Those of earlier versions carry none; reconcile counts the receipts of all seals again.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.model import (
    LeaseKind,
    LeaseResult,
    ReceiptSummary,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What counts for units [first, end) of a shard."""

    shard: int
    kind: LeaseKind
    first: int
    end: int
    attempt: int
    generation: int
    result_name: str
    result_sha256: str
    summary: ReceiptSummary


_DIGEST = "seal_sha256"
UNITS_MAX = 2**31 - 1
"""Rows and parts of a shard are counted in int32."""
_FLAT_KEYS = {
    "outcome": "outcomes",
    "bytes": "outcome_bytes",
    "level": "levels",
    "cause": "causes",
}


def seal(directory: JobDirectory, result: LeaseResult, area: str = "sealed") -> Seal:
    """Write the seal of an accepted result. The first of two wins; returns the one that counts."""
    name = f"{area}/{_seal_name(result)}"
    values = {
        item.name: getattr(result, item.name) for item in fields(Seal) if item.name != "summary"
    }
    values["summary"] = asdict(result.summary)
    text = json.dumps({**values, _DIGEST: _digest(values)}, sort_keys=True) + "\n"
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
        sealed = _reader().validate_json(_with_nested_summary(_checked(data)), strict=True)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        sealed = None
    if sealed is None or not _is_sound(sealed) or not name.endswith(f"/{_seal_name(sealed)}"):
        raise JobDirectoryError(f"{name} is damaged; restore it from a copy of the job")
    return sealed


@functools.cache
def _reader() -> TypeAdapter[Seal]:
    """What checks a seal: there may be hundreds of thousands, and this is the fastest way.

    Loaded with the first: most workers read none.
    """
    from pydantic import TypeAdapter

    return TypeAdapter(Seal)


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _checked(data: bytes) -> bytes:
    """The same bytes. Raises ValueError if they state a digest that is not theirs."""
    values = json.loads(data)
    stated = values.pop(_DIGEST, None)
    if stated is not None and stated != _digest(values):
        raise ValueError("another digest")
    return data


def _with_nested_summary(data: bytes) -> bytes:
    """A seal as it is written now. Earlier versions wrote its summary with flat keys.

    `outcome.X`, `bytes.X`, `level.X` and `cause.X` are the keys X of four mappings; others stay,
    and are ignored unless they are fields. Raises what reading something else than a seal raises.
    """
    values = json.loads(data)
    if "outcomes" in values["summary"]:
        return data
    nested: dict[str, Any] = {field: {} for field in _FLAT_KEYS.values()}
    for key, number in values["summary"].items():
        prefix, _, name = key.partition(".")
        if name and prefix in _FLAT_KEYS:
            nested[_FLAT_KEYS[prefix]][name] = number
        else:
            nested[key] = number
    return json.dumps({**values, "summary": nested}).encode()


def supersede_seal(directory: JobDirectory, sealed: Seal, attempt: int) -> None:
    """Take a seal back: its units have to be sealed again."""
    directory.supersede(f"sealed/{_seal_name(sealed)}", attempt)


def _seal_name(of: LeaseResult | Seal) -> str:
    """Below the area of the seals."""
    return f"{of.shard:08d}/{of.kind}-{of.generation:06d}-{of.first:08d}.json"


def _is_sound(sealed: Seal) -> bool:
    summary = sealed.summary
    counts = (summary.levels, summary.causes, summary.changes)
    sums = (summary.outcomes, summary.outcome_bytes, *counts)
    numbers = (
        *(sealed.shard, sealed.attempt, sealed.generation),
        *(summary.bytes_moved, summary.part_bytes),
        *itertools.chain.from_iterable(each.values() for each in sums),
    )
    result = PurePosixPath(sealed.result_name)
    inside = not result.is_absolute() and ".." not in result.parts
    return inside and min(numbers) >= 0 and 0 <= sealed.first <= sealed.end <= UNITS_MAX
