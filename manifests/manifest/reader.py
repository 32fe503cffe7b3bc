"""A frozen manifest, opened and read."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.count_text import count_text
from noria.manifests.errors import (
    ConfigurationError,
    JobDirectoryError,
)
from noria.manifests.manifest.row_digest import manifest_digest
from noria.manifests.model import Delta, ObjectEntry, PassedOver, Reason, ShardKind, ShardPlan
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import PartPlan, fit_parts
from noria.manifests.schema import (
    MANIFEST_SCHEMA,
    PASS_MANIFEST_SCHEMA,
    SCHEMA_VERSION,
    SHARD_SCHEMA,
    SHARDS_PER_FILE,
)
from noria.manifests.strict_json import Pattern, from_json

READ_ROWS = 8_192
FOOTERS = 4
"""Files whose parsed footers are kept: the row groups of 256 shards take some 4 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Shards [first, end), which lie in one file: what one thread reads at a time."""

    file: int
    first: int
    end: int
    first_row: int
    """Rows of the manifest before it."""
    rows: int
    opens_file: bool
    """It is the first of its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _SizeCounts(_Counts):
    below: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    name: Annotated[str, Pattern(r"[a-z]+(-[0-9]{5,})?\.parquet")]
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shards:
    count: int
    parts: int
    file: _File


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What manifest.json has to say, and in which types."""

    objects: int
    bytes: int
    to_move: _Counts
    reasons: dict[str, _Counts]
    sizes: list[_SizeCounts]
    digest: str
    files: list[_File]
    shards: _Shards
    plan: PlanOptions
    inventory: dict[str, Any]
    delta: dict[str, _Counts] | None = None
    """Of a later pass."""


_UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException)

_ENTRY_COLUMNS = ["key", "target_key", "size", "etag", "version_id", "crc64nvme", "reason"]
_PASS_COLUMNS = ["delta", "replaces"]


def open_manifest(directory: Path) -> Manifest:
    """Open a manifest. Raises JobDirectoryError if it is missing, incomplete or too new."""
    try:
        text = (directory / "manifest.json").read_bytes()
        facts = json.loads(text)
        if facts["schema"] != SCHEMA_VERSION:
            raise JobDirectoryError(
                f"{directory} has schema {str(facts['schema'])[:20]}, this version of Noria reads "
                f"{SCHEMA_VERSION}; use the version that made it"
            )
        stated = from_json(_Facts, facts)
        for file in stated.files:
            if (directory / file.name).stat().st_size != file.bytes:
                raise JobDirectoryError(
                    f"{directory}/{file.name} is not of its frozen size; restore it"
                )
        return Manifest(directory, facts, _read_shards(directory, stated))
    except (*_UNREADABLE, ConfigurationError) as error:
        # What others say may have many lines, and repeat values.
        said = isinstance(error, OSError | pa.ArrowException) or type(error) is ValueError
        what = first_line(error) if said else "manifest.json is damaged"
        raise JobDirectoryError(
            f"cannot read the manifest {directory}: {what}; restore it, or plan again"
        ) from error


def _read_shards(directory: Path, stated: _Facts) -> pa.Table:
    """shards.parquet. Raises ValueError unless it was frozen so and agrees with manifest.json."""
    data = (directory / stated.shards.file.name).read_bytes()
    if hashlib.sha256(data).hexdigest() != stated.shards.file.sha256:
        raise ValueError("shards.parquet is not what was frozen")
    # On this thread alone: a thread of Arrow's that frees Python's memory while the interpreter
    # ends aborts the process.
    shards = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)
    if not shards.schema.equals(SHARD_SCHEMA):
        raise ValueError("shards.parquet has other columns")
    said = (stated.shards.count, stated.objects, stated.to_move.bytes, len(stated.files))
    rows, moved = (pc.sum(shards[name], min_count=0).as_py() for name in ("rows", "bytes"))
    if said != (len(shards), rows, moved, -(-len(shards) // SHARDS_PER_FILE)):
        raise ValueError("manifest.json and shards.parquet do not agree")
    return shards


class Manifest:
    """A manifest on disk. Reading holds one row group at most; threads may call any method."""

    def __init__(self, directory: Path, facts: dict[str, Any], shards: pa.Table) -> None:
        self.directory = directory
        self.facts = facts
        """The content of manifest.json."""
        self.options = PlanOptions.from_json(facts["plan"])
        self._shards = shards
        self._footer: Callable[[int], pq.FileMetaData] = functools.lru_cache(FOOTERS)(
            self._read_footer
        )

    @property
    def schema(self) -> pa.Schema:
        """Of its rows: MANIFEST_SCHEMA, or PASS_MANIFEST_SCHEMA for a later pass."""
        return MANIFEST_SCHEMA if self.facts.get("delta") is None else PASS_MANIFEST_SCHEMA

    @property
    def objects(self) -> int:
        """All entries, those with a reason included."""
        return int(self.facts["objects"])

    @property
    def bytes(self) -> int:
        return int(self.facts["bytes"])

    @property
    def passed_over(self) -> dict[str, int]:
        """Cause -> entries of the inventory that have no row here; only what is not zero."""
        inventory = self.facts["inventory"]
        counts = {
            PassedOver.OUTSIDE_PREFIX: inventory.get("outside_prefix", 0),
            PassedOver.OTHER_CONTAINER: inventory.get("other_container", 0),
            PassedOver.DUPLICATE: inventory.get("duplicates", 0),
            PassedOver.SUPERSEDED: inventory.get("superseded", 0),
            PassedOver.NOT_CURRENT: sum(inventory.get("not_current", {}).values()),
            **{cause: inventory.get(cause.value, 0) for cause in PassedOver if cause.filtered},
        }
        return {cause.value: count for cause, count in counts.items() if count}

    @property
    def objects_to_move(self) -> int:
        """Entries without a reason."""
        return int(self.facts["to_move"]["objects"])

    @property
    def bytes_to_move(self) -> int:
        return int(self.facts["to_move"]["bytes"])

    @property
    def sizes(self) -> list[dict[str, int]]:
        """Entries to move by size: {below, objects, bytes}, `below` a power of two."""
        return list(self.facts["sizes"])

    @property
    def digest(self) -> str:
        """See manifests/manifest/row_digest.py."""
        return str(self.facts["digest"])

    @property
    def shard_count(self) -> int:
        return len(self._shards)

    def shards(self) -> list[ShardPlan]:
        """The plan of every shard, by number."""
        return [_shard_plan(row) for row in self._shards.to_pylist()]

    def shard(self, shard: int) -> ShardPlan:
        """The plan of one shard. Raises IndexError if there is none of that number."""
        return _shard_plan(self._row(shard))

    def fit(self, size: int) -> PartPlan:
        """The parts of an entry of this size, by the options of the plan. Raises TargetRefused."""
        options = self.options
        return fit_parts(
            size,
            options.limits,
            part_bytes=options.part_bytes,
            chunk_bytes=options.chunk_bytes,
            put_bytes=options.put_bytes,
        )

    def stretches(self, rows: int) -> Iterator[Stretch]:
        """All shards in order, as stretches of at least so many rows unless their file ends."""
        first = row = taken = 0
        files = self._shards["file"].to_pylist()
        for shard, count in enumerate(self._shards["rows"].to_pylist()):
            taken += count
            ends_file = shard + 1 == len(files) or files[shard + 1] != files[shard]
            if taken >= rows or ends_file:
                yield Stretch(
                    file=files[first],
                    first=first,
                    end=shard + 1,
                    first_row=row,
                    rows=taken,
                    opens_file=first == 0 or files[first - 1] != files[first],
                )
                first, row, taken = shard + 1, row + taken, 0

    def first_key(self, shard: int) -> str:
        """The least key of a shard. Raises JobDirectoryError if the file is damaged."""
        with self._file(shard) as (file, row_group):
            for batch in file.iter_batches(1, row_groups=[row_group], columns=["key"]):
                return str(batch["key"][0])
            raise ValueError(f"shard {shard} has no rows")

    def read_shard(self, shard: int) -> pa.Table:
        """All rows of a shard, of `schema`. Raises JobDirectoryError if the file is damaged."""
        with self._file(shard) as (file, row_group):
            return file.read_row_group(row_group, use_threads=False)

    def read_shards(
        self, first: int, end: int, columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of each shard in [first, end), in order; a file is opened once.

        `columns` None: all of `schema`. Raises JobDirectoryError if a file is damaged.
        """
        places = self._shards.slice(first, end - first).select(["shard", "file", "row_group"])
        for _, shards in itertools.groupby(places.to_pylist(), operator.itemgetter("file")):
            row = next(shards)
            with self._file(row["shard"]) as (file, _):
                for place in itertools.chain([row], shards):
                    group = place["row_group"]
                    yield file.read_row_group(group, columns=columns, use_threads=False)

    def entries(self, shard: int, first: int = 0, end: int | None = None) -> Iterator[ObjectEntry]:
        """Rows [first, end) of a shard, in order, read as they are asked for.

        `end` None: to the last row. Raises JobDirectoryError if the file is damaged.
        """
        rows = self._row(shard)["rows"]
        end = rows if end is None else min(end, rows)
        row = 0
        is_first = self.schema is MANIFEST_SCHEMA
        columns = _ENTRY_COLUMNS if is_first else _ENTRY_COLUMNS + _PASS_COLUMNS
        with self._file(shard) as (file, row_group):
            for batch in file.iter_batches(READ_ROWS, row_groups=[row_group], columns=columns):
                start, stop = max(first - row, 0), min(end - row, len(batch))
                if start < stop:
                    yield from _entries(shard, row + start, batch.slice(start, stop - start))
                row += len(batch)
                if row >= end:
                    return
            if row < end:
                raise ValueError(f"shard {shard} has only {count_text(row, 'row')}")

    def target_keys_among(self, names: pa.Array) -> set[str]:
        """Those of `names` that entries of this manifest have at the target, below its prefix.

        Reads the keys of all shards.
        """
        found: set[str] = set()
        shards = self.shard_count if len(names) else 0
        for keys in self.read_shards(0, shards, ["key", "target_key"]):
            landing = pc.coalesce(keys["target_key"], keys["key"])
            found.update(landing.filter(pc.is_in(landing, value_set=names)).to_pylist())
        return found

    def verify(self) -> None:
        """Read everything again: the SHA-256 of each file, and the digest of all rows.

        Raises JobDirectoryError, naming the first file that is not what was frozen.
        """
        self.check_shards()
        for file in range(len(self.facts["files"])):
            self.check_file(file)
        self.check_digest(manifest_digest(self.read_shards(0, self.shard_count), self.schema))

    def check_shards(self) -> None:
        """Raises JobDirectoryError if shards.parquet is not what was frozen."""
        self._check_sha256(self.facts["shards"]["file"])

    def check_file(self, file: int) -> None:
        """Raises JobDirectoryError if a file of rows is not what was frozen."""
        self._check_sha256(self.facts["files"][file])

    def check_digest(self, digest: str) -> None:
        """Raises JobDirectoryError unless this is the digest that the rows were frozen with."""
        if digest != self.digest:
            raise JobDirectoryError(f"the rows in {self.directory} do not have the frozen digest")

    def _check_sha256(self, file: dict[str, Any]) -> None:
        with self._reading(), open(self.directory / file["name"], "rb") as data:
            if hashlib.file_digest(data, "sha256").hexdigest() != file["sha256"]:
                raise JobDirectoryError(
                    f"{self.directory}/{file['name']} is not what was frozen; restore it"
                )

    def _row(self, shard: int) -> dict[str, Any]:
        if not 0 <= shard < len(self._shards):
            raise IndexError(
                f"the manifest has {count_text(len(self._shards), 'shard')}, no shard {shard}"
            )
        row: dict[str, Any] = self._shards.slice(shard, 1).to_pylist()[0]
        return row

    @contextlib.contextmanager
    def _file(self, shard: int) -> Iterator[tuple[pq.ParquetFile, int]]:
        """The open file of a shard, and its row group in there."""
        row = self._row(shard)
        path = self._path(row["file"])
        # pre_buffer would read row groups that nobody asked for.
        with (
            self._reading(),
            pq.ParquetFile(
                path,
                metadata=self._footer(row["file"]),
                pre_buffer=False,
                page_checksum_verification=True,
            ) as file,
        ):
            if not file.schema_arrow.equals(self.schema):
                raise ValueError(f"{path.name} has other columns")
            if row["row_group"] >= file.num_row_groups:
                raise ValueError(f"{path.name} lacks row groups")
            yield file, row["row_group"]

    def _read_footer(self, file: int) -> pq.FileMetaData:
        """To be parsed once for each file, and not for each of its 256 shards."""
        return pq.read_metadata(self._path(file))

    def _path(self, file: int) -> Path:
        return self.directory / str(self.facts["files"][file]["name"])

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            with disk_errors(self.directory, "restore it"):
                yield
        except (ValueError, LookupError) as error:
            raise JobDirectoryError(
                f"the manifest {self.directory} is damaged: {first_line(error)}; restore it"
            ) from error


def _entries(shard: int, first: int, rows: pa.RecordBatch) -> Iterator[ObjectEntry]:
    columns = (column.to_pylist() for column in rows.columns)
    for row, values in enumerate(zip(*columns, strict=True), start=first):
        key, target_key, size, etag, version_id, crc64nvme, reason, *of_pass = values
        delta, replaces = of_pass or (None, None)
        yield ObjectEntry(
            shard=shard,
            row=row,
            key=key,
            target_key=key if target_key is None else target_key,
            size=size,
            etag=etag,
            version_id=version_id,
            crc64nvme=crc64nvme,
            reason=None if reason is None else Reason(reason),
            delta=None if delta is None else Delta(delta),
            replaces=replaces,
        )


def _shard_plan(row: dict[str, Any]) -> ShardPlan:
    return ShardPlan(
        shard=row["shard"],
        kind=ShardKind(row["kind"]),
        units=row["units"],
        bytes=row["bytes"],
        units_per_lease=row["units_per_lease"],
    )


@contextlib.contextmanager
def disk_errors(directory: Path, remedy: str = "give it room or access") -> Iterator[None]:
    """Raises JobDirectoryError for an error of the disk or of Arrow in the block."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise JobDirectoryError(
            f"cannot use the manifest {directory}: {first_line(error)}; {remedy}, then run again"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without the lines that follow."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
