"""What stands at the target after a pass, as the receipts of all passes say: the state.

    state/000001/part-00000.parquet     STATE_SCHEMA, sorted by key; blocks of BLOCK_ROWS rows
    state/000001/state.json             rows, bytes, and each file with its SHA-256

It is derived (fold.py): made from the seals again, it is the same, bit for bit. A folder takes its
name once it is whole, and loses it before it is removed; names that begin with a dot are of those
that are not whole. Rows are read in order, a block in memory at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from noria.manifests.access import make_folders, open_new, settle_modes
from noria.manifests.errors import AnotherDriver, JobDirectoryError
from noria.manifests.job.receipts import change_counts, value_counts
from noria.manifests.key_ranges import KeyRanges
from noria.manifests.strict_json import Pattern, from_json

STATE_SCHEMA: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("target_key", pa.string()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("source_etag", pa.string()),
        pa.field("source_version", pa.string()),
        pa.field("modified", pa.timestamp("ms", tz="UTC")),
        pa.field("target_etag", pa.string()),
        pa.field("target_version", pa.string()),
        pa.field("crc64nvme", pa.uint64()),
        pa.field("level", pa.string()),
        pa.field("changes", pa.string()),
        pa.field("written", pa.bool_(), nullable=False),
        pa.field("pass", pa.int32(), nullable=False),
        pa.field("gone_since", pa.int32()),
    ]
)
"""One row for each object that stands at the target.

    key             name below the source's prefix
    target_key      name below the target's prefix; null if it is the same
    source_etag     of the source when it was read, as are source_version and modified
    target_etag     what the target answered then, with target_version
    level, changes  as its receipt has them: how far it was verified, what its attributes lost
    written         this migration wrote it; false: it stood there, and was equal
    pass            the pass whose receipt this is
    gone_since      the first of the passes, up to the last one, that did not find it at the source

A way back (reversal.py) has rows without a target_etag, whose objects do not stand there.
"""

STATE_FILE: Final = "state.json"
BLOCK_ROWS: Final = 65_536
"""Rows of a row group: what is read at a time."""
BLOCKS_PER_FILE: Final = 64
FIRST_BYTES: Final = 64 * 1024
"""Of a block, that are read at a time for its first key."""
REPETITIVE: Final = ["level", "changes", "pass", "gone_since"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFile:
    """A file of a state, as it was written."""

    name: Annotated[str, Pattern(r"part-[0-9]{5,}\.parquet")]
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFacts:
    """state.json."""

    number: int
    """Of the pass."""
    objects: int
    bytes: int
    """Of these objects."""
    files: list[StateFile]


class State:
    """A state on disk."""

    def __init__(self, folder: Path, facts: StateFacts) -> None:
        self.folder = folder
        self.facts = facts

    @property
    def digest(self) -> str:
        """SHA-256 of state.json, which has those of the files: the same of the same rows."""
        with state_errors(self.folder):
            return hashlib.sha256((self.folder / STATE_FILE).read_bytes()).hexdigest()

    def blocks(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """All rows in order, a block at a time. Raises JobDirectoryError if a file is damaged."""
        for each in self.facts.files:
            path = self.folder / each.name
            with state_errors(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
                if not file.schema_arrow.equals(STATE_SCHEMA):
                    raise JobDirectoryError(f"{path} has other columns; {_REMEDY}")
                for block in range(file.num_row_groups):
                    yield file.read_row_group(block, columns=columns, use_threads=False)

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """How many objects have reached each level, and how many lost what of their attributes."""
        levels, changes = Counter[str](), Counter[str]()
        for block in self.blocks(["level", "changes"]):
            levels.update(dict(value_counts(block["level"])))
            changes.update(change_counts(block["changes"]))
        return levels, changes

    def walk(self) -> StateWalk:
        """Begin to walk through its rows by rising keys."""
        return StateWalk(self.blocks())

    def ranges(self, most: int) -> KeyRanges:
        """Key space, cut into at most so many ranges of about as many rows."""
        first_keys = list(self._first_keys())
        step = -(-len(first_keys) // most) or 1
        return KeyRanges(first_keys[step::step])

    def _first_keys(self) -> Iterator[str]:
        """Of each block; no more of it is read than that takes."""
        for each in self.facts.files:
            path = self.folder / each.name
            with state_errors(path), pq.ParquetFile(path, buffer_size=FIRST_BYTES) as file:
                for block in range(file.num_row_groups):
                    rows = file.iter_batches(1, [block], ["key"], use_threads=False)
                    yield next(rows)["key"][0].as_py()


class StateWalk:
    """The rows of a state, handed out by rising keys, each once."""

    def __init__(self, blocks: Iterator[pa.Table]) -> None:
        self._blocks = blocks
        self._held: pa.Table | None = None
        """Rows that were read and are above all keys asked for so far."""

    def through(self, key: str) -> Iterator[pa.Table]:
        """The next rows, up to `key` included: tables with rows, in order, of a block at most."""
        while (block := self._next()) is not None:
            count = len(block)
            if block["key"][-1].as_py() > key:
                count = pc.sum(pc.less_equal(block["key"], key), min_count=0).as_py()
                self._held = block.slice(count)
            if count:
                yield block.slice(0, count)
            if self._held is not None:
                return

    def rest(self) -> Iterator[pa.Table]:
        """All rows that are left."""
        while (block := self._next()) is not None:
            yield block

    def _next(self) -> pa.Table | None:
        block, self._held = self._held, None
        return next(self._blocks, None) if block is None else block


def open_state(folder: Path) -> State | None:
    """The state in this folder, or None.

    Raises JobDirectoryError if it is damaged or cannot be read.
    """
    if not folder.exists():
        return None
    with state_errors(folder):
        try:
            facts = from_json(StateFacts, json.loads((folder / STATE_FILE).read_bytes()))
            for each in facts.files:
                if (folder / each.name).stat().st_size != each.bytes:
                    raise JobDirectoryError(f"{folder / each.name} is not of its size; {_REMEDY}")
        except FileNotFoundError:
            raise JobDirectoryError(f"{folder} lacks a file; {_REMEDY}") from None
        except (ValueError, LookupError, TypeError, RecursionError):
            raise JobDirectoryError(f"{folder}/state.json is damaged; {_REMEDY}") from None
    return State(folder, facts)


def drop_state(folder: Path) -> None:
    """Have no state in this folder. Raises JobDirectoryError if it cannot be removed."""
    dropped = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    with state_errors(folder):
        try:
            os.rename(folder, dropped)
        except FileNotFoundError:
            return
    shutil.rmtree(dropped, ignore_errors=True)  # what is left has no name, and goes later


class StateWriter:
    """Writes a state beside its final folder, and gives it its name; a context manager.

    Rows come sorted by key, each key once. Blocks depend on the rows alone, not on how they came.
    One state of a migration is written at a time: raises AnotherDriver while another process does.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._building = folder.with_name(f".{folder.name}.fold")
        self._lock: int | None = None
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._files: list[StateFile] = []
        self._writer: pq.ParquetWriter | None = None
        self._blocks = 0
        self._rows = 0
        """Of the open file."""
        self._objects = self._bytes = 0

    def __enter__(self) -> StateWriter:
        home = self._folder.parent
        with state_errors(self._folder):
            make_folders(home)
            self._lock = open_new(str(home / "lock"), os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for left in home.glob(".*"):  # by a process that was killed
                    shutil.rmtree(left)
                make_folders(self._building)
            except BlockingIOError:
                self._unlock()
                raise AnotherDriver(
                    f"another process notes what stands in {home}; wait for it"
                ) from None
            except OSError:
                self._unlock()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # of a file that nobody will read
                self._writer.close()
        shutil.rmtree(self._building, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def append(self, rows: pa.Table) -> None:
        """Take the next rows, STATE_SCHEMA."""
        if not len(rows):
            return
        self._pending.append(rows)
        self._pending_rows += len(rows)
        if self._pending_rows < BLOCK_ROWS:
            return
        table = pa.concat_tables(self._pending)
        whole = len(table) - len(table) % BLOCK_ROWS
        for start in range(0, whole, BLOCK_ROWS):
            self._write(table.slice(start, BLOCK_ROWS))
        left = table.slice(whole)
        self._pending, self._pending_rows = ([left] if len(left) else []), len(left)

    def finish(self) -> State:
        """Write what is left, flush all to disk, and publish it, in place of one of this name."""
        if self._pending:
            self._write(pa.concat_tables(self._pending))
        with state_errors(self._folder):
            self._close_file()
            facts = StateFacts(
                number=self._number, objects=self._objects, bytes=self._bytes, files=self._files
            )
            with open(self._building / STATE_FILE, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(facts), indent=1, sort_keys=True) + "\n")
                file.flush()
                os.fsync(file.fileno())
            settle_modes(self._building, self._folder.parent)
            _flush_folder(self._building)
            drop_state(self._folder)
            os.rename(self._building, self._folder)
            _flush_folder(self._folder.parent)
        return State(self._folder, facts)

    def _write(self, block: pa.Table) -> None:
        with state_errors(self._folder):
            if self._blocks % BLOCKS_PER_FILE == 0:
                self._close_file()
                self._writer = self._open_file(self._blocks // BLOCKS_PER_FILE)
            assert self._writer is not None
            self._writer.write_table(block.combine_chunks(), row_group_size=BLOCK_ROWS)
        self._blocks += 1
        self._rows += len(block)
        self._objects += len(block)
        self._bytes += pc.sum(block["size"]).as_py()

    def _open_file(self, number: int) -> pq.ParquetWriter:
        self._rows = 0
        return pq.ParquetWriter(
            self._building / f"part-{number:05d}.parquet",
            STATE_SCHEMA,
            compression="zstd",
            compression_level=1,
            use_dictionary=REPETITIVE,
            write_statistics=False,
            write_page_checksum=True,
        )

    def _close_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        path = self._building / f"part-{len(self._files):05d}.parquet"
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        self._files.append(StateFile(name=path.name, rows=self._rows, bytes=size, sha256=digest))


_REMEDY: Final = "remove that folder: it is made from the seals again"


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def state_errors(place: Path, remedy: str = _REMEDY) -> Iterator[None]:
    """Raises JobDirectoryError for an error of the disk or of Arrow in the block.

    `remedy` is for what is damaged.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        # Arrow tells of most damage by an OSError, which has no number then.
        if not isinstance(error, OSError) or error.errno is None:
            raise JobDirectoryError(f"{place} is damaged; {remedy}") from error
        raise JobDirectoryError(
            f"cannot use {place}: {error.strerror or type(error).__name__}; "
            "give it room or access, then run again"
        ) from error
