"""How an object of one size is cut into parts, within the limits of its target."""

from __future__ import annotations

from dataclasses import dataclass

from noria.manifests.errors import TargetRefused
from noria.manifests.model import Part
from noria.manifests.plan.providers import MIB, ProviderLimits

PARTS_WANTED = 1024
"""Parts of a whole job, if it can be cut so: enough for a hundred connections and a short end."""
PART_BYTES_LEAST = 16 * MIB
"""A smaller part is not streamed (workers/part.py), and its own cost begins to show."""
PUT_BYTES = PART_BYTES_LEAST - 1
"""What is larger is streamed as a part, however large parts are.

One PUT would hold its whole size in memory from the first byte read to the last one sent, and a
connection at one end would rest while the other works.
"""
PART_BYTES_MOST = 64 * MIB
"""A larger part saves next to nothing, and takes a slow connection a minute to send again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPlan:
    """How an object of one size is written."""

    part_bytes: int
    """Size of every part but the last."""
    parts: int
    """0: one PUT carries the whole object."""


def fit_parts(
    size: int,
    limits: ProviderLimits,
    *,
    part_bytes: int,
    chunk_bytes: int,
    put_bytes: int | None = None,
) -> PartPlan:
    """Parts for an object of `size` bytes: part_bytes, or the least multiple of chunk_bytes.

    An object of up to put_bytes has none, if a PUT may be as large; None: of up to part_bytes.
    Raises TargetRefused if the target cannot hold the object, or only in parts that are not a
    multiple of chunk_bytes (at Scaleway the last 0.01 % below 5 TB, with chunks of 8 MiB).
    """
    most = part_bytes if put_bytes is None else put_bytes
    if size <= min(most, limits.max_put_bytes):
        return PartPlan(part_bytes=part_bytes, parts=0)
    if size > largest_object(limits, part_bytes=part_bytes, chunk_bytes=chunk_bytes):
        raise TargetRefused(f"an object of {size} bytes is too large for {limits.name}")
    least = max(limits.min_part_bytes, -(-size // limits.max_parts))
    fitted = max(least, min(part_bytes, limits.max_part_bytes))
    whole_chunks = -(-fitted // chunk_bytes) * chunk_bytes
    fitted = min(whole_chunks, limits.max_part_bytes // chunk_bytes * chunk_bytes)
    return PartPlan(part_bytes=fitted, parts=-(-size // fitted))


def suitable_part_bytes(total_bytes: int, *, chunk_bytes: int) -> int:
    """A size of parts that suits a job of so many bytes, in whole chunks.

    About PARTS_WANTED parts, of 16 to 64 MiB each: the last one of a job takes as long as it is
    large, and an object can use no more connections than it has parts.
    """
    wanted = max(PART_BYTES_LEAST, min(total_bytes // PARTS_WANTED, PART_BYTES_MOST))
    return -(-wanted // chunk_bytes) * chunk_bytes


def largest_object(limits: ProviderLimits, *, part_bytes: int, chunk_bytes: int) -> int:
    """The size of the largest object that fit_parts() fits; every smaller one fits too."""
    largest_part = limits.max_part_bytes // chunk_bytes * chunk_bytes
    if largest_part < limits.min_part_bytes:
        largest_part = 0
    one_put = min(part_bytes, limits.max_put_bytes)
    return min(limits.max_object_bytes, max(one_put, limits.max_parts * largest_part))


def part_at(size: int, part_bytes: int, number: int) -> Part:
    """Part `number`, from 1, of an object of `size` bytes cut every part_bytes."""
    offset = (number - 1) * part_bytes
    if number < 1 or offset >= size:
        raise ValueError(f"an object of {size} bytes has no part {number} of {part_bytes} bytes")
    return Part(number=number, offset=offset, size=min(part_bytes, size - offset))
