"""Counting what a list of objects comes to: the same parts as the data plane's."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from noria.engine.estimate.counts import JobTraits, bit_lengths, count_work, fitted_parts
from noria.manifests.counters import StoreOperation
from noria.manifests.manifest.freeze import freeze
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PUT_BYTES, fit_parts, largest_object
from noria.manifests.plan.providers import MIB, known_name_rules, limits_for
from tests.support.rows import inventory

SEED = 7


@pytest.mark.parametrize("provider", ["aws", "scaleway", "azure", "outscale", "local", "ovhcloud"])
@pytest.mark.parametrize("put_bytes", [None, PUT_BYTES])
def test_parts_are_those_of_the_plan(provider: str, put_bytes: int | None) -> None:
    chance = random.Random(f"{SEED} {provider}")
    limits = limits_for(provider)
    options = PlanOptions(
        limits=limits, rules=known_name_rules(provider), part_bytes=16 * MIB, put_bytes=put_bytes
    )
    most = largest_object(limits, part_bytes=16 * MIB, chunk_bytes=options.chunk_bytes)
    near = [16 * MIB, PUT_BYTES, 16 * MIB * limits.max_parts, limits.max_put_bytes, most]
    sizes = [min(most, max(0, size + step)) for size in near for step in (-1, 0, 1)]
    sizes += [int(2 ** chance.uniform(0, np.log2(most))) for _ in range(500)]
    parts, part_bytes = fitted_parts(np.array(sizes, np.int64), options)
    for row, size in enumerate(sizes):
        fitted = fit_parts(
            size,
            limits,
            part_bytes=options.part_bytes,
            chunk_bytes=options.chunk_bytes,
            put_bytes=put_bytes,
        )
        assert parts[row] == fitted.parts, size
        if fitted.parts:
            assert part_bytes[row] == fitted.part_bytes, size


def test_bits_are_exact() -> None:
    sizes = [0, 1, 2, 3, 4, *((1 << n) + step for n in range(3, 62) for step in (-1, 0, 1))]
    assert bit_lengths(np.array(sizes, np.int64)).tolist() == [n.bit_length() for n in sizes]


def test_requests_of_small_large_and_huge_objects(tmp_path: Path) -> None:
    options = PlanOptions(
        limits=limits_for("aws"),
        rules=known_name_rules("aws"),
        part_bytes=16 * MIB,
        put_bytes=PUT_BYTES,
        segment_bytes=64 * MIB,
    )
    listed = inventory(
        [
            {"key": "empty", "size": 0},
            {"key": "small", "size": 1000},
            {"key": "large", "size": 40 * MIB},
            {"key": "huge", "size": 160 * MIB},
            {"key": "frozen", "size": 5, "tier": "GLACIER"},
        ]
    )
    manifest = freeze([listed], tmp_path / "manifest", options=options)
    traits = JobTraits(source_provider="azure", target_provider="aws", range_bytes=8 * MIB)
    found = count_work(manifest, traits)
    kinds = StoreOperation
    assert (found.objects, found.parts, found.transfers) == (4, 13, 15)
    assert found.bytes == 200 * MIB + 1000
    assert sum(each.bytes for each in found.classes) == found.bytes
    # The huge one has ten parts in three leases; each pins it, and so does the assembly.
    assert found.source == {kinds.GET: 2 + 5 + 20, kinds.HEAD: 1 + 4, kinds.LIST: 1}
    assert found.target == {
        kinds.PUT: 2,
        kinds.HEAD: 2,
        kinds.PUT_PART: 13,
        kinds.COMPLETE: 2,
        kinds.CREATE_UPLOAD: 2,
        kinds.LIST: 1,
    }
