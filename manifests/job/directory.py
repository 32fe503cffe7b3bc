"""The job directory: the only truth of a job.

    job.json                                   what was asked; the job's id; no secret
    manifest/                                  the frozen manifest (manifests/manifest/freeze.py)
    epochs/0000000001.json                     one for each driver that ever held the job
    uploads/SHARD/GENERATION.json              the multipart upload that a PARTS shard feeds
    journal/SHARD/ATTEMPT.journal              what an attempt has done so far, appended; dropped
                                               when the shard is settled
    results/SHARD/KIND-FIRST-ATTEMPT.parquet   receipts or part records of one lease
    sealed/SHARD/KIND-GENERATION-FIRST.json    names the one result that counts
    superseded/ATTEMPT/...                     seals taken back: their failures are tried again
    verified/EPOCH/                            results and seals of a later verification
    status.json, verify-status.json            caches for people and metrics, replaced every second
    reconcile.json, failures.parquet           reports, made again by every run
    probing.json                               where a probe writes, until its canaries are gone
    probe-removed.json                         the probe's canaries are gone from the target
    pseudonyms.key                             makes the names that reports show instead of keys
    driver.lock                                held by the living driver

Folders are 0700 and files 0600, or a group's too (manifests/access.py).

Everything but journals, caches and reports is written once, put-if-absent, and flushed to disk
before its name appears: a reader sees a whole file or none. A full or failing disk is a
JobDirectoryError, raised before the next side effect.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from noria.manifests.access import PRIVATE, file_mode, make_folders, open_new, settle_mode
from noria.manifests.errors import AnotherDriver, ConfigurationError, JobDirectoryError
from noria.manifests.schema import SCHEMA_VERSION

ATTEMPTS_PER_EPOCH = 1_000_000_000
"""Attempts of epoch E are E * ATTEMPTS_PER_EPOCH + 1, 2, ...: unique, without a write a lease."""
EPOCHS_MAX = 2**63 // ATTEMPTS_PER_EPOCH - 1
"""Attempts are stored as int64."""
_EPOCH = re.compile(r"epochs/([0-9]{10})\.json")

_KEEP = ".keep"
LOCK_FILE = "driver.lock"
LOOKED_AT_SECONDS = 10.0
"""How long a driver waits for those who only look at its lock."""
FRESH_SECONDS = 10.0
"""A driver is heard of every second. One of another machine that was not for so long is dead."""


class JobDirectory:
    """A job directory on a file system that all nodes of the job share.

    Methods may be repeated: writing once what is there already returns False and changes nothing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def check_place(root: Path) -> None:
        """See that a job directory at root could be what it has to be; leaves nothing there.

        What exists of the path is tried: a file is made, flushed, locked, and linked to a second
        name. Some network file systems cannot do that. Raises ConfigurationError.
        """
        place = next(each for each in (root, *root.absolute().parents) if each.exists())
        scratch = place / f".noria-place-{secrets.token_hex(8)}"
        what = "files"
        try:
            with open(scratch, "xb", opener=open_new) as file:
                os.fsync(file.fileno())
                what = "locks (flock)"
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                what = "hard links"
                os.link(scratch, scratch.with_suffix(".link"))
        except OSError as error:
            raise ConfigurationError(
                f"a job directory cannot be at {root}: {what} cannot be made there "
                f"({error.strerror}); name one on another file system"
            ) from error
        finally:
            for left in (scratch, scratch.with_suffix(".link")):
                with contextlib.suppress(OSError):
                    left.unlink()

    @classmethod
    def create(cls, root: Path, job: dict[str, Any]) -> JobDirectory:
        """Make a new job directory. Raises JobDirectoryError if there is another job."""
        with _disk_errors(root):
            root.mkdir(PRIVATE, parents=True, exist_ok=True)
        directory = cls(root)
        written = directory.write_once("job.json", _json({"schema": SCHEMA_VERSION, **job}))
        if not written:
            raise JobDirectoryError(
                f"{root} holds a job already; run `noria run {root}` to resume it"
            )
        return directory

    @classmethod
    def open(cls, root: Path) -> JobDirectory:
        """Open an existing one.

        Raises ConfigurationError if there is none, JobDirectoryError if it is of another version.
        """
        directory = cls(root)
        job = directory.job()
        if job.get("schema") != SCHEMA_VERSION:
            raise JobDirectoryError(
                f"{root} has schema {job.get('schema')}, this version of Noria reads "
                f"{SCHEMA_VERSION}; use the version that made it"
            )
        return directory

    @classmethod
    def exists(cls, root: Path) -> bool:
        return (root / "job.json").is_file()

    def job(self) -> dict[str, Any]:
        """The content of job.json."""
        text = self.read("job.json")
        if text is None:
            raise ConfigurationError(
                f"{self.root} is not a job directory: it has no job.json; name the one of --job"
            )
        try:
            job = json.loads(text)
        except (ValueError, RecursionError):
            job = None
        if not isinstance(job, dict):
            raise JobDirectoryError(
                f"{self.root}/job.json is damaged; restore it or plan a new job"
            )
        return job

    def withdraw(self) -> None:
        """Make the directory hold no job, unless its plan is frozen. May be repeated."""
        if self.manifest_path.exists():
            return
        with _disk_errors(self.root):
            (self.root / "job.json").unlink(missing_ok=True)
            _flush_directory(self.root)

    @property
    def manifest_path(self) -> Path:
        return self.root / "manifest"

    def path(self, name: str) -> Path:
        return self.root / name

    def read(self, name: str) -> bytes | None:
        """A whole small file, or None."""
        try:
            return (self.root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _disk_error(self.root, error) from error

    def write_once(self, name: str, data: bytes) -> bool:
        """Durable put-if-absent. True if this call wrote the file, False if it was there."""
        target = self.root / name
        with _disk_errors(self.root):
            make_folders(target.parent)
            scratch = _write_scratch(target, data)
            try:
                os.link(scratch, target)
            except FileExistsError:
                return False
            finally:
                scratch.unlink()
            _flush_directory(target.parent)
        return True

    def publish(self, scratch: Path, name: str) -> None:
        """Give a finished scratch file its name, durably; no other attempt uses that name."""
        target = self.root / name
        with _disk_errors(self.root):
            descriptor = os.open(scratch, os.O_RDONLY)
            try:
                settle_mode(descriptor, file_mode(self.root))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            make_folders(target.parent)
            os.replace(scratch, target)
            _flush_directory(target.parent)

    def replace(self, name: str, data: bytes) -> None:
        """Put a cache or report in place of the last one; a reader sees the old or the new one."""
        target = self.root / name
        with _disk_errors(self.root):
            make_folders(target.parent)
            os.replace(_write_scratch(target, data), target)

    def supersede(self, name: str, attempt: int) -> None:
        """Move a file out of the way, durably: it does not count any more."""
        target = self.root / f"superseded/{attempt:018d}/{name}"
        with _disk_errors(self.root):
            make_folders(target.parent)
            os.replace(self.root / name, target)
            _flush_directory(target.parent)
            _flush_directory((self.root / name).parent)

    def names(self, directory: str) -> Iterator[str]:
        """Names below a directory of this job, in order, without scratch files."""
        try:
            entries = sorted(os.scandir(self.root / directory), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _disk_error(self.root, error) from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from self.names(f"{directory}/{entry.name}")
            else:
                yield f"{directory}/{entry.name}"

    def journal(self, shard: int, attempt: int) -> JournalFile:
        """The journal of one attempt, to append to."""
        return JournalFile(self.root / journal_name(shard, attempt))

    def journals(self, shard: int) -> Iterator[bytes]:
        """The content of all journals of a shard, oldest attempt first."""
        for name in self.names(f"journal/{shard:08d}"):
            data = self.read(name)
            if data is not None:
                yield data

    def keep_journals(self, shard: int) -> None:
        """Have drop_journal() leave this shard alone: its journals know of uploads left open."""
        with _disk_errors(self.root):
            place = self.root / f"journal/{shard:08d}" / _KEEP
            make_folders(place.parent)
            open(place, "ab", opener=open_new).close()

    def drop_journal(self, shard: int) -> None:
        """Forget a shard's journals once seals cover it."""
        if (self.root / f"journal/{shard:08d}" / _KEEP).exists():
            return
        shutil.rmtree(self.root / f"journal/{shard:08d}", ignore_errors=True)

    def is_held(self, seen_seconds: float | None) -> bool:
        """Whether a driver lives; `seen_seconds` is how long ago one was last heard of.

        The lock says so to its own machine. To another one a file system may not show it, so that a
        driver of another machine also lives if it was heard of lately. Nothing is written.
        """
        try:
            with open(self.root / LOCK_FILE, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return True
            raise _disk_error(self.root, error) from error
        lately = seen_seconds is not None and seen_seconds < FRESH_SECONDS
        return lately and self._last_host() != socket.gethostname()

    def _last_host(self) -> object:
        """The machine of the driver that held the job last."""
        *_, name = ["", *self.names("epochs")]
        with contextlib.suppress(ValueError, AttributeError):
            return json.loads(self.read(name) or b"{}").get("host") if name else None
        return None

    def hold(self) -> DriverHold:
        """Become the one driver. Raises AnotherDriver."""
        return DriverHold(self)


class DriverHold:
    """The lock and the epoch of a living driver; a context manager.

    The lock is flock(2), released by the kernel when the process ends. `epoch` is durable and
    unique to this driver: attempts are numbered below it, so that no two drivers ever use the same
    one.
    """

    def __init__(self, directory: JobDirectory) -> None:
        with _disk_errors(directory.root):
            self._file = open(directory.root / LOCK_FILE, "a+b", opener=open_new)  # noqa: SIM115
        try:
            _lock(self._file)
        except OSError as error:
            self._file.close()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise AnotherDriver(
                    f"another noria process holds {directory.root}; wait for it or stop it "
                    f"(`noria status {directory.root}` shows what it does)"
                ) from None
            raise _disk_error(directory.root, error) from error
        try:
            self.epoch = self._next_epoch(directory)
        except BaseException:
            self._file.close()
            raise

    @staticmethod
    def _next_epoch(directory: JobDirectory) -> int:
        # Files of other names are not Noria's, and are ignored.
        known = filter(None, map(_EPOCH.fullmatch, directory.names("epochs")))
        epoch = 1 + max((int(found[1]) for found in known), default=0)
        if epoch > EPOCHS_MAX:
            raise JobDirectoryError(
                f"epochs/{epoch - 1:010d}.json was written by no driver; remove it, then run again"
            )
        who = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        while not directory.write_once(f"epochs/{epoch:010d}.json", _json(who)):
            epoch += 1
        return epoch

    @property
    def first_attempt(self) -> int:
        return self.epoch * ATTEMPTS_PER_EPOCH + 1

    def __enter__(self) -> DriverHold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


class JournalFile:
    """An append-only file, made by the first append(), which returns once the bytes are on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def append(self, data: bytes) -> None:
        with _disk_errors(self._path.parent):
            if self._descriptor is None:
                make_folders(self._path.parent)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                self._descriptor = open_new(str(self._path), flags)
                _flush_directory(self._path.parent)
            if os.fstat(self._descriptor).st_nlink == 0:
                raise JobDirectoryError(
                    f"{self._path.name} was dropped: its shard is settled, and this attempt is over"
                )
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(file: BinaryIO) -> None:
    """Take the driver's lock. Raises OSError, at once if another driver has it.

    Whoever only looks at it (is_held) holds it for a moment, and shares it.
    """
    until = time.monotonic() + LOOKED_AT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES) or time.monotonic() > until:
                raise
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # no driver shares its lock
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(LOOKED_AT_SECONDS / 1000)
        else:
            return


def journal_name(shard: int, attempt: int) -> str:
    return f"journal/{shard:08d}/{attempt:018d}.journal"


def upload_name(shard: int, generation: int) -> str:
    return f"uploads/{shard:08d}/{generation:06d}.json"


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _write_scratch(target: Path, data: bytes) -> Path:
    scratch = target.with_name(f".{target.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        with open(scratch, "wb", opener=open_new) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return scratch


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(root: Path, error: OSError) -> JobDirectoryError:
    what = error.strerror or str(error)
    return JobDirectoryError(
        f"cannot use the job directory {root}: {what}; make room or access, then run again"
    )


@contextlib.contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _disk_error(root, error) from error
