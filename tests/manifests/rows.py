"""Rows of an inventory, as short as a test wants to write them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from manifests.planning import PlanOptions
from manifests.providers import NameRules, limits_for
from manifests.schema import INVENTORY_SCHEMA


def inventory(rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """A batch of INVENTORY_SCHEMA; what a row does not say is null, its size 0."""
    full = [{"size": 0, **row} for row in rows]
    return pa.RecordBatch.from_pylist(full, schema=INVENTORY_SCHEMA)


def plan(provider: str = "aws", rules: NameRules | None = None, **options: Any) -> PlanOptions:
    """Options for a target that stores every name, unless rules say otherwise."""
    return PlanOptions(limits=limits_for(provider), rules=rules or NameRules(), **options)
