"""From a pattern to datasets: which containers, buckets or folders there are now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from noria.engine.config.datasets import DatasetConfig, DatasetPattern


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDatasets:
    """What patterns stand for now."""

    datasets: Sequence[DatasetConfig] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """URL of a pattern -> containers that it passes over."""


def find_datasets(
    patterns: Iterable[DatasetPattern],
    shared: Mapping[str, Any],
    known: Sequence[DatasetConfig],
    say: Callable[[str], None],
) -> FoundDatasets:
    """Ask for the names of containers, and make a dataset of each that a pattern takes.

    A container that one of `known` has for its source is not taken again.
    """
    del patterns, shared, known, say
    return FoundDatasets()
