"""Two places compared by name, size and what else both state, or by their bytes; without a job.

Both are listed at once, into files in a scratch folder. DuckDB joins those, in bounded memory, and
the pairs come back in the order of their names. Nothing is written to either place.

    same name, other size                      differs
    both state a checksum of the same kind     matches or differs by it
    else                                       matches by size alone, unless bytes are compared

An ETag of S3 that looks like an MD5 counts as one. Where it is none (keys of KMS, for one), objects
that are equal count as different: a false alarm, which a comparison of bytes settles.
"""

from __future__ import annotations

import glob
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from noria.engine.config.locations import Scheme
from noria.engine.looking import Entries, ListedPlace
from noria.engine.scratch import held_folder
from noria.manifests.count_text import count_text
from noria.manifests.errors import Fatal, JobDirectoryError, NoriaError
from noria.manifests.memory import THREADS, out_of_core_bytes
from noria.manifests.model import Reason
from noria.workers.runtime.buffers import ScratchBuffer
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.paced import PATIENT, PacedStore

if TYPE_CHECKING:
    from noria.workers.stores.protocol import SourceStore

BATCH_ROWS: Final = 16_384
RANGE_BYTES: Final = 64 << 20
"""Read by one request; two places are compared after each."""
PIECE_BYTES: Final = 1 << 20
"""Memory of one reader."""
WAITING: Final = 4
"""Pairs for each transfer that are under way or wait for their turn to be reported."""
LOOK_SECONDS: Final = 0.1
_FOLDER_NAME: Final = "noria-check-"

_SIDE: Final = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("md5", pa.string()),
        pa.field("parts", pa.string()),
        pa.field("crc", pa.uint64()),
        pa.field("is_named", pa.bool_()),
    ]
)
"""`parts` is an ETag of S3 for an object of several parts: one that is equal means equal bytes. Not
`is_named`: of a folder, and its name is not UTF-8, so that no other place can state it."""

_PAIRS: Final = """
select
    coalesce(a.key, b.key) as key, a.size as a_size, b.size as b_size,
    a.etag as a_etag, b.etag as b_etag,
    case
        when not coalesce(a.is_named, true) or not coalesce(b.is_named, true) then 'not UTF-8'
        when b.key is null then 'missing on B'
        when a.key is null then 'missing on A'
        when a.size <> b.size then 'size'
        when a.crc <> b.crc then 'CRC64'
        when a.md5 <> b.md5 then 'MD5'
        when a.size = 0 or a.crc = b.crc or a.md5 = b.md5 or a.parts = b.parts then 'checksum'
        else 'alone'
    end as found
from read_parquet({a}) a {join} join read_parquet({b}) b on a.key = b.key
order by key
"""


class Verdict(StrEnum):
    """What became of one name; the values are the signs of `rclone check --combined`."""

    MATCH = "="
    DIFFER = "*"
    MISSING_ON_A = "-"
    MISSING_ON_B = "+"
    ERROR = "!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One name, and what was found."""

    name: str
    verdict: Verdict
    why: str
    """Of a match: checksum, size or bytes. Of a difference: what differs. Of an error: which."""


@dataclass(slots=True)
class CheckCounts:
    """How many names were compared, and how."""

    match: int = 0
    match_by_size_alone: int = 0
    """Of those that match: neither a checksum nor bytes were compared."""
    differ: int = 0
    missing_on_a: int = 0
    missing_on_b: int = 0
    errors: int = 0
    left_out: int = 0
    """Links, sockets and the like: they have no bytes to compare."""

    @property
    def differences(self) -> int:
        return self.differ + self.missing_on_a + self.missing_on_b

    def add(self, compared: Compared) -> None:
        verdict = compared.verdict
        self.match += verdict is Verdict.MATCH
        self.match_by_size_alone += verdict is Verdict.MATCH and compared.why == "size"
        self.differ += verdict is Verdict.DIFFER
        self.missing_on_a += verdict is Verdict.MISSING_ON_A
        self.missing_on_b += verdict is Verdict.MISSING_ON_B
        self.errors += verdict is Verdict.ERROR


class Check:
    """A comparison of two places; iterate over pairs() once. A context manager.

    Memory does not grow with the number of objects; the scratch folder does, by some 100 bytes for
    each of either place.
    """

    def __init__(self, first: ListedPlace, second: ListedPlace, scratch: Path | None) -> None:
        """`scratch`: where the files go. None: the folder for temporary files."""
        self.counts = CheckCounts()
        self._places = {"a": first, "b": second}
        self._names = {"a": "", "b": ""}
        """Whole keys of the two objects, if one object is compared with one."""
        self._place = scratch or Path(tempfile.gettempdir())
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(held_folder(self._place, _FOLDER_NAME))
        self._rows = {"a": 0, "b": 0}
        self._left_out = {"a": 0, "b": 0}

    def pairs(self, *, one_way: bool, transfers: int) -> Iterator[Compared]:
        """What was found of each name, in the order of their UTF-8 bytes.

        `one_way` passes over what is on B alone. With `transfers`, the bytes of so many pairs are
        read at a time, where name and size are equal; 0 reads none. Raises NoriaError; an object
        that cannot be read is an error of its own.
        """
        try:
            self._list()
            self.counts.left_out = sum(self._left_out.values())
            rows = self._joined(one_way=one_way)
            found = self._read(rows, transfers) if transfers else map(_by_listing, rows)
            for compared in found:
                self.counts.add(compared)
                yield compared
        except OSError as error:
            raise JobDirectoryError(
                f"cannot compare in {self._place}: {error.strerror or error}; make room, "
                "or name another folder with --scratch"
            ) from error

    def __enter__(self) -> Check:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _list(self) -> None:
        """List both places side by side; the first error ends it."""
        a, b = self._places["a"], self._places["b"]
        one = a.the_object()
        if one is not None:
            # As a copy of one object has it: below a place, it has the same name.
            self._names["a"] = key = one["key"][0].as_py()
            name = key.rpartition("/")[2]
            other = b.the_object()
            self._names["b"] = b.prefix + name if other is None else other["key"][0].as_py()
            other = b.look_up(b.prefix + name) if other is None else other
            self._spool("a", [Entries(objects=_renamed(one, name))])
            self._spool("b", [] if other is None else [Entries(objects=_renamed(other, name))])
            return
        calls = [
            BackgroundCall(partial(self._spool, "a", a.entries(recursive=True)), "list-a"),
            BackgroundCall(
                partial(self._spool, "b", b.entries(recursive=True, may_be_empty=True)), "list-b"
            ),
        ]
        while calls:
            ended = [call for call in calls if call.ends_within(LOOK_SECONDS)]
            for call in ended:
                call.result()
                calls.remove(call)

    def _spool(self, side: str, found: Iterable[Entries]) -> None:
        scheme = self._places[side].scheme
        with pq.ParquetWriter(self._path(side), _SIDE, compression="zstd") as writer:
            for entries in found:
                rows, left_out = _comparable(entries.objects, scheme)
                writer.write_batch(rows)
                self._rows[side] += len(rows)
                self._left_out[side] += left_out

    def _joined(self, *, one_way: bool) -> Iterator[dict[str, Any]]:
        import duckdb

        config: dict[str, Any] = {
            "threads": THREADS,
            # The join, and the sort of what it gives.
            "memory_limit": f"{out_of_core_bytes(2 * sum(self._rows.values()), 'compare')}B",
            "temp_directory": str(self._folder / "spill"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        query = _PAIRS.format(
            a=_quoted(self._path("a")),
            b=_quoted(self._path("b")),
            join="left" if one_way else "full",
        )
        try:
            with duckdb.connect(config=config) as database:
                for batch in database.sql(query).to_arrow_reader(BATCH_ROWS):
                    yield from batch.to_pylist()
        except duckdb.Error as error:
            # Its message may quote an object's name.
            raise OSError(f"the join failed ({type(error).__name__})") from error

    def _path(self, side: str) -> Path:
        return self._folder / f"{side}.parquet"

    def _read(self, rows: Iterable[dict[str, Any]], transfers: int) -> Iterator[Compared]:
        """Compare bytes where the listing finds no difference, several pairs at once, in order.

        An MD5 that differs may be none: bytes decide.
        """
        stopping = threading.Event()
        stores = {
            side: PacedStore(
                inner=place.store, policy=PATIENT, stopping=stopping, denied_alone=True
            )
            for side, place in self._places.items()
        }
        waiting: deque[Compared | Future[Compared]] = deque()
        with ThreadPoolExecutor(transfers, thread_name_prefix="compare") as threads:
            try:
                for row in rows:
                    compared = _by_listing(row)
                    if compared.verdict is Verdict.MATCH or compared.why == "MD5":
                        waiting.append(threads.submit(self._compare_bytes, stores, row))
                    else:
                        waiting.append(compared)
                    if len(waiting) >= WAITING * transfers:
                        yield _settled(waiting.popleft())
                while waiting:
                    yield _settled(waiting.popleft())
            finally:
                stopping.set()
                threads.shutdown(wait=False, cancel_futures=True)

    def _compare_bytes(self, stores: dict[str, PacedStore], row: dict[str, Any]) -> Compared:
        name, size = row["key"], row["a_size"]
        equal = Compared(name=name, verdict=Verdict.MATCH, why="bytes")
        try:
            for offset in range(0, size, RANGE_BYTES):
                length = min(RANGE_BYTES, size - offset)
                digests = {
                    self._hash(side, stores[side], row, offset, length) for side in ("a", "b")
                }
                if len(digests) != 1:
                    return replace(equal, verdict=Verdict.DIFFER)
        except Fatal:
            raise
        except NoriaError as error:
            return replace(equal, verdict=Verdict.ERROR, why=error.message)
        return equal

    def _hash(
        self, side: str, store: SourceStore, row: dict[str, Any], offset: int, length: int
    ) -> bytes:
        """The xxh3_128 of a range of one object, pinned to the ETag that was listed."""
        digest = _RangeDigest()
        key = self._names[side] or self._places[side].prefix + row["key"]
        into = ScratchBuffer(memoryview(bytearray(min(length, PIECE_BYTES))), length)
        store.read_range(
            key, offset=offset, into=into, etag=row[f"{side}_etag"] or None, listener=digest
        )
        return digest.digest()


class _RangeDigest:
    """The xxh3_128 of the bytes of one read."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def update(self, piece: memoryview, crc64nvme: int | None = None, /) -> None:
        self._hash.update(piece)

    def restart(self) -> bool:
        self._hash.reset()
        return True

    def digest(self) -> bytes:
        return self._hash.digest()


def _by_listing(row: dict[str, Any]) -> Compared:
    found = row["found"]
    verdict = {
        "missing on A": Verdict.MISSING_ON_A,
        "missing on B": Verdict.MISSING_ON_B,
        "checksum": Verdict.MATCH,
        "alone": Verdict.MATCH,
        "not UTF-8": Verdict.ERROR,
    }.get(found, Verdict.DIFFER)
    why = "size" if found == "alone" else found
    if verdict is Verdict.ERROR:
        why = "its name is not UTF-8: rename it; convmv does that"
    elif found == "size":
        why = f"{row['a_size']:,} and {count_text(row['b_size'], 'byte')}"
    return Compared(name=row["key"], verdict=verdict, why=why)


def _settled(compared: Compared | Future[Compared]) -> Compared:
    return compared.result() if isinstance(compared, Future) else compared


def _renamed(row: pa.RecordBatch, name: str) -> pa.RecordBatch:
    return row.set_column(0, row.schema.field(0), pa.array([name]))


def _comparable(objects: pa.RecordBatch, scheme: Scheme) -> tuple[pa.RecordBatch, int]:
    """Rows of _SIDE without folders and their markers; and how many had no bytes to compare."""
    folder = pc.or_(pc.fill_null(objects["is_folder"], False), _markers(objects))
    objects = objects.filter(pc.invert(folder))
    listed = len(objects)
    if scheme is Scheme.FILE:
        kinds = objects["blob_type"]
        nameless = pc.equal(kinds, Reason.NAME_NOT_UTF8)
        objects = objects.filter(pc.or_(pc.is_null(kinds), pc.fill_null(nameless, False)))
    is_named = (
        objects["blob_type"].is_null() if scheme is Scheme.FILE else pa.repeat(True, len(objects))
    )
    none = pa.nulls(len(objects), pa.string())
    md5, parts = none, none
    if scheme is Scheme.S3:
        etag = objects["etag"]
        md5 = pc.if_else(pc.match_substring_regex(etag, "^[0-9a-f]{32}$"), etag, none)
        parts = pc.if_else(pc.match_substring_regex(etag, "^[0-9a-f]{32}-[0-9]+$"), etag, none)
    elif scheme is Scheme.AZURE:
        stated = objects["content_md5"].to_pylist()
        md5 = pa.array([None if each is None else each.hex() for each in stated], pa.string())
    columns = [objects["key"], objects["size"], objects["etag"], md5, parts, objects["crc64nvme"]]
    columns.append(is_named)
    return pa.RecordBatch.from_arrays(columns, schema=_SIDE), listed - len(objects)


def _markers(objects: pa.RecordBatch) -> pa.Array:
    return pc.and_(pc.ends_with(objects["key"], "/"), pc.equal(objects["size"], 0))


def _quoted(path: Path) -> str:
    """This one file, to a function that takes patterns."""
    return "'" + glob.escape(str(path)).replace("'", "''") + "'"
