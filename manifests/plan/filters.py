"""What a job leaves out because its user said so: by name, size, age, tier, type and tag.

Everything is decided over Arrow columns of INVENTORY_SCHEMA, a batch at a time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.count_text import count_text
from noria.manifests.errors import InventoryError
from noria.manifests.model import PassedOver
from noria.manifests.plan.globs import PathRules

FILTERED = "filtered"
"""As `not_current` of a row: its object is there, and a filter leaves it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFilter:
    """Which values of a text column pass: RE2 expressions, None for no say."""

    wanted: str | None = None
    unwanted: str | None = None

    def passes(self, values: pa.Array) -> pa.Array:
        """A value that is not stated is neither wanted nor unwanted."""
        values = pc.fill_null(values, "")
        passed = pa.repeat(pa.scalar(True), len(values))
        if self.wanted is not None:
            passed = pc.match_substring_regex(values, self.wanted)
        if self.unwanted is not None:
            passed = pc.and_not(passed, pc.match_substring_regex(values, self.unwanted))
        return passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """All that an entry has to pass. None: no say."""

    names: PathRules = field(default_factory=PathRules)
    min_bytes: int | None = None
    max_bytes: int | None = None
    modified_from: datetime | None = None
    modified_to: datetime | None = None
    tiers: TextFilter | None = None
    unnamed_tier: str | None = None
    """The tier of an object for which the store states none."""
    types: TextFilter | None = None
    tags: TextFilter | None = None

    def needed(self) -> dict[PassedOver, str]:
        """What is compared that a source may not state: cause -> column."""
        found = {}
        if self.modified_from is not None or self.modified_to is not None:
            found[PassedOver.FILTERED_AGE] = "last_modified"
        if self.tiers is not None and self.unnamed_tier is None:
            found[PassedOver.FILTERED_TIER] = "tier"
        if self.types is not None:
            found[PassedOver.FILTERED_TYPE] = "content_type"
        if self.tags is not None:
            found[PassedOver.FILTERED_TAG] = "tags"
        return found

    @property
    def looks_beyond_names(self) -> bool:
        """Whether two rows of one key may differ in whether they pass."""
        limits = (self.min_bytes, self.max_bytes, self.modified_from, self.modified_to)
        texts = (self.tiers, self.types, self.tags)
        return any(each is not None for each in (*limits, *texts))

    def masks(
        self, batch: pa.RecordBatch, names: pa.Array
    ) -> Iterator[tuple[PassedOver, pa.Array]]:
        """Each filter that has a say, and True for each row that passes it.

        `names` are the keys below the source's prefix. An object whose time is not stated passes.
        """
        sizes, times = batch.column("size"), batch.column("last_modified")
        if self.min_bytes is not None:
            yield PassedOver.FILTERED_SIZE, pc.greater_equal(sizes, self.min_bytes)
        if self.max_bytes is not None:
            yield PassedOver.FILTERED_SIZE, pc.less_equal(sizes, self.max_bytes)
        if self.modified_from is not None:
            late = pc.greater_equal(times, pa.scalar(self.modified_from, times.type))
            yield PassedOver.FILTERED_AGE, pc.fill_null(late, True)
        if self.modified_to is not None:
            early = pc.less_equal(times, pa.scalar(self.modified_to, times.type))
            yield PassedOver.FILTERED_AGE, pc.fill_null(early, True)
        if self.tiers is not None:
            tiers = pc.fill_null(batch.column("tier"), self.unnamed_tier or "")
            yield PassedOver.FILTERED_TIER, self.tiers.passes(tiers)
        if self.types is not None:
            yield PassedOver.FILTERED_TYPE, self.types.passes(batch.column("content_type"))
        if self.tags is not None:
            yield PassedOver.FILTERED_TAG, self.tags.passes(batch.column("tags"))
        yield PassedOver.FILTERED_NAME, self.names.passes(names)


class FilteredRows:
    """Rows of an inventory without those that do not pass, which are counted."""

    def __init__(self, filters: Filters, source_prefix: str, *, marked: bool = False) -> None:
        """`marked`: those that do not pass come as well, with FILTERED as their `not_current`."""
        self._filters = filters
        self._prefix = source_prefix
        self._marked = marked
        self.left_out: Counter[PassedOver] = Counter()
        """Each entry once, by the first filter that it does not pass."""

    def of(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows that pass, and those outside the prefix, which are not looked at.

        Raises InventoryError at the end if none passed, or if what a filter compares was stated for
        no entry at all.
        """
        unstated = self._filters.needed()
        kept = looked_at = 0
        for batch in batches:
            inside = pc.starts_with(batch.column("key"), self._prefix)
            rows = batch.filter(inside)
            for cause, column in list(unstated.items()):
                if rows.column(column).null_count < len(rows):
                    del unstated[cause]
            looked_at += len(rows)
            passes, rows = self._passes(rows)
            passed = rows.filter(passes)
            kept += len(passed)
            yield passed
            if self._marked and len(passed) < len(rows):
                yield _marked(rows.filter(pc.invert(passes)))
            if len(rows) < len(batch):
                yield batch.filter(pc.invert(inside))
        if looked_at and unstated:
            raise InventoryError(
                f"no entry of the inventory states its {', '.join(sorted(unstated.values()))}, "
                "which a filter compares; take another inventory, or leave the filter out"
            )
        if looked_at and not kept and not self._marked:
            found = ", ".join(f"{cause}: {count:,}" for cause, count in self.left_out.items())
            raise InventoryError(
                f"none of {count_text(looked_at, 'entry')} would be moved: the filters leave out "
                f"all ({found}); correct them. Names are compared below the source's prefix"
            )

    def _passes(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
        """Which of these rows pass, and the rows."""
        if self._filters.looks_beyond_names:
            # An older version that passes must not stand for a current one that does not.
            past = rows.column("not_current").is_valid()
            if count := pc.sum(past, min_count=0).as_py():
                self.left_out[PassedOver.NOT_CURRENT] += count
                rows = rows.filter(pc.invert(past))
        keys = pc.utf8_slice_codeunits(rows.column("key"), start=len(self._prefix))
        passed = pa.repeat(pa.scalar(True), len(rows))
        before = len(rows)
        for cause, mask in self._filters.masks(rows, keys):
            passed = pc.and_(passed, mask)
            after = pc.sum(passed, min_count=0).as_py()
            if after < before:
                self.left_out[cause] += before - after
            before = after
        return passed, rows


def _marked(rows: pa.RecordBatch) -> pa.RecordBatch:
    place = rows.schema.get_field_index("not_current")
    marks = pa.repeat(pa.scalar(FILTERED, pa.string()), len(rows))
    return rows.set_column(place, rows.schema.field(place), marks)


def words_regex(words: Iterable[str]) -> str | None:
    """An expression for these words in any case. None if there are none."""
    found = "|".join(map(re.escape, words))
    return f"(?i)^({found})$" if found else None


def types_regex(types: Iterable[str]) -> str | None:
    """An expression for these content types in any case, whatever parameters they have.

    `image/*` is every one that begins so. None if there are none.
    """
    found = "|".join(re.escape(kind).replace(r"\*", "[^;]*") for kind in types)
    return rf"(?i)^({found})\s*(;|$)" if found else None


def tags_regex(tags: Iterable[str]) -> str | None:
    """An expression for the canonical JSON of tags, with any of KEY=VALUE or KEY. None for none."""
    found = []
    for tag in tags:
        key, sign, value = tag.partition("=")
        pair = f"{_quoted(key)}:" + (f"{_quoted(value)}[,}}]" if sign else "")
        found.append(pair)
    return f"[{{,]({'|'.join(found)})" if found else None


def _quoted(text: str) -> str:
    return re.escape(json.dumps(text, ensure_ascii=False))
