"""Both ends of `noria bench`: what it moves of the source, and its own place at the target.

The sample is written as an inventory report, so that every run plans the same objects without
another listing. At the target each bench has a folder with a random name, and each run one below
it. A bench deletes only what a run's own manifest names there, and only if the receipt, or the mark
on the object, says that this run wrote it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import duckdb

from noria.engine.config.jobfile import EndConfig, InventoryConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.planning import Prepared
from noria.manifests.errors import ConfigurationError, UploadLost
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import read_seals
from noria.manifests.model import LeaseKind, Outcome
from noria.workers.stores.listing import list_objects
from noria.workers.stores.paced import PacedTarget
from noria.workers.stores.protocol import TargetStore

DELETE_STREAMS = 32
DELETE_BATCH = 10_000
MEMORY_LIMIT = "1GiB"
"""For sorting the sample; what does not fit goes to disk beside it."""


class TargetSandbox:
    """The folder of one bench below a job's target, with a folder in it for each run."""

    def __init__(self, target: EndConfig) -> None:
        self._target = target
        self.name = f"noria-bench-{secrets.token_hex(8)}"

    @property
    def url(self) -> str:
        location = self._target.location
        if location.scheme is Scheme.FILE:
            return f"file://{quote(location.container.rstrip('/'))}/{self.name}/"
        account = f"{location.account}/" if location.account else ""
        below = f"{location.container}/{location.prefix}{self.name}/"
        return f"{location.scheme}://{account}{below}"

    def folder(self, name: str) -> EndConfig:
        """The target of one run."""
        end = self._target.model_copy(update={"url": f"{self.url}{name}/"})
        if end.location.scheme is Scheme.FILE and Path(self._target.location.container).is_dir():
            Path(end.location.container).mkdir(parents=True, exist_ok=True)
        return end

    def clear(self, prepared: Prepared, *, ended_well: bool) -> None:
        """Delete what one run wrote, and its uploads if it was cut short. May be repeated.

        Raises the error of a store that keeps refusing.
        """
        if f"/{self.name}/" not in str(prepared.config.target.location) + "/":
            raise ValueError("the job does not belong to this bench")
        prefix, mark = prepared.facts.target_prefix, f"{prepared.facts.job_id}."
        target = open_end(prepared.config.target)
        try:
            _delete_all(target, mark, _written(prepared))
            for upload in () if ended_well else list(target.list_uploads(prefix)):
                with contextlib.suppress(UploadLost):
                    target.abort_upload(upload.key, upload.upload_id)
        finally:
            target.close()

    def drop_folders(self) -> None:
        """Remove the empty folders that folder() has made."""
        location = self._target.model_copy(update={"url": self.url}).location
        if location.scheme is Scheme.FILE and (root := Path(location.container)).is_dir():
            for folder in (*root.iterdir(), root):
                with contextlib.suppress(OSError):  # what is in it is not ours
                    folder.rmdir()

    def count_left(self) -> int:
        """How many objects there are."""
        location = self._target.model_copy(update={"url": self.url}).location
        if location.scheme is Scheme.FILE:
            return sum(path.is_file() for path in Path(location.container).rglob("*"))
        store = open_end(self._target)
        try:
            return sum(batch.num_rows for batch in list_objects(store, location.prefix, streams=1))
        finally:
            store.close()


def _written(prepared: Prepared) -> Iterator[tuple[str, bool]]:
    """Every name of the manifest that may hold an object of this run; True: a receipt says so."""
    directory, prefix = prepared.directory, prepared.facts.target_prefix
    for shard in prepared.manifest.shards():
        outcomes: dict[int, str] = {}
        for sealed in read_seals(directory, shard=shard.shard):
            if sealed.kind is not LeaseKind.PARTS:
                table = read_result(directory, sealed)
                rows, values = table["row"].to_pylist(), table["outcome"].to_pylist()
                outcomes.update(zip(rows, values, strict=True))
        for entry in prepared.manifest.entries(shard.shard):
            if entry.reason is None:
                landed = outcomes.get(entry.row) == Outcome.TRANSFERRED
                yield prefix + entry.target_key, landed


def _delete_all(target: TargetStore, mark: str, names: Iterator[tuple[str, bool]]) -> None:
    paced = PacedTarget(inner=target)

    def delete(name: str, certain: bool) -> None:
        if not certain:
            head = paced.head(name)
            if head is None or not (head.txid or "").startswith(mark):
                return
        paced.delete_object(name)

    with ThreadPoolExecutor(DELETE_STREAMS, thread_name_prefix="delete") as streams:
        while batch := list(islice(names, DELETE_BATCH)):
            for _ in streams.map(lambda item: delete(*item), batch):
                """Raises what a deletion has raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeClass:
    """Objects of [2^power, 2^(power + 1)) bytes; power 0 holds the empty ones too."""

    power: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What every run moves."""

    objects: int
    bytes: int
    inventory: InventoryConfig


def share_out(classes: Iterable[SizeClass], limit_bytes: int) -> dict[int, int]:
    """Power -> how many objects to take, so that all together are about `limit_bytes`.

    They exceed it by at most one object of the smallest class.

    Each class gets its share of the bytes. What is too little for one object of a class goes to the
    next smaller one: of a few huge objects a small sample holds none, but as many large ones.
    """
    ordered = sorted(classes, key=lambda one: one.power, reverse=True)
    total = sum(one.bytes for one in ordered)
    if limit_bytes >= total:
        return {one.power: one.objects for one in ordered}
    takes, spare = {}, 0
    for one in ordered:
        wanted = one.bytes * limit_bytes // total + spare
        if one.bytes:
            takes[one.power] = min(one.objects, wanted * one.objects // one.bytes)
            spare = wanted - takes[one.power] * one.bytes // one.objects
        else:
            takes[one.power] = one.objects * limit_bytes // total
    return takes


_POWER = "cast(floor(log2(greatest(size, 1))) as integer)"

_OBJECTS = f"""
create view objects as select key, size, etag, version_id, {_POWER} as power
from read_parquet('{{manifest}}/part-*.parquet') where reason is null;
"""

# Of each class the objects in the middle of `take` equal runs, in the order of sizes: together as
# large as their share, and the same each time.
_SAMPLE = """
copy (
  select '{bucket}' as bucket, '{prefix}' || key as key, size, etag as e_tag,
    version_id, true as is_latest
  from (select *, row_number() over (partition by power order by size, key) as place from objects)
  join (select power, count(*) as objects from objects group by power) using (power)
  join takes using (power)
  where ((2 * place - 1) * take + objects) // (2 * objects)
    > ((2 * place - 3) * take + objects) // (2 * objects)
  order by key
) to '{file}' (format parquet);
"""


def take_sample(prepared: Prepared, folder: Path, limit_bytes: int | None) -> Sample:
    """Choose among the objects that a plan would move, and write them down as a report in `folder`.

    Raises ConfigurationError if there is nothing to choose from.
    """
    if not prepared.manifest.bytes_to_move:
        raise ConfigurationError("there are no bytes at the source that a bench could move")
    folder.mkdir(parents=True)
    file = folder.resolve() / "objects.parquet"
    location = prepared.config.source.location
    with duckdb.connect() as database:
        database.execute(f"set memory_limit='{MEMORY_LIMIT}'")
        database.execute(f"set temp_directory='{_quoted(folder / 'spill')}'")
        database.execute(_OBJECTS.format(manifest=_quoted(prepared.directory.manifest_path)))
        takes = share_out(_classes(database), limit_bytes or prepared.manifest.bytes_to_move)
        database.execute("create table takes (power integer, take bigint)")
        database.executemany("insert into takes values (?, ?)", list(takes.items()))
        database.execute(
            _SAMPLE.format(
                bucket=_quoted(location.container),
                prefix=_quoted(prepared.facts.source_prefix),
                file=_quoted(file),
            )
        )
        objects, total = database.execute(
            f"select count(*), coalesce(sum(size), 0) from read_parquet('{_quoted(file)}')"
        ).fetchall()[0]
    if not total:
        raise ConfigurationError(f"--limit {limit_bytes} is less than any object; raise it")
    inventory = _write_report(file, location.container)
    if prepared.facts.single_object:
        inventory = InventoryConfig()
    return Sample(objects=int(objects), bytes=int(total), inventory=inventory)


def _classes(database: duckdb.DuckDBPyConnection) -> Sequence[SizeClass]:
    rows = database.execute("select power, count(*), sum(size) from objects group by 1").fetchall()
    return [
        SizeClass(power=int(power), objects=int(objects), bytes=int(total))
        for power, objects, total in rows
    ]


def _write_report(file: Path, container: str) -> InventoryConfig:
    """The manifest and checksum that make an S3 Inventory of the file, whatever the source is."""
    with file.open("rb") as data:
        md5 = hashlib.file_digest(data, "md5").hexdigest()
    manifest = {
        "sourceBucket": container,
        "fileFormat": "Parquet",
        "fileSchema": "",
        "creationTimestamp": str(int(time.time() * 1000)),
        "files": [{"key": str(file)[1:], "size": file.stat().st_size, "MD5checksum": md5}],
    }
    text = json.dumps(manifest).encode()
    path = file.with_name("manifest.json")
    path.write_bytes(text)
    path.with_suffix(".checksum").write_text(hashlib.md5(text).hexdigest())
    return InventoryConfig(kind="s3-inventory", url=f"file://{quote(str(path))}")


def _quoted(text: object) -> str:
    return str(text).replace("'", "''")
