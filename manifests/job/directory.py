"""The job directory: the only truth of a job.

    job.json                                   what was asked; the job's id; no secret
    manifest/                                  the frozen manifest (manifests/manifest/freeze.py)
    epochs/0000000001.json                     one for each driver that ever held the job
    epochs/0000000001-workers.json             its workers may still write (manifests/job/fence.py)
    uploads/SHARD/GENERATION.json              the multipart upload that a PARTS shard feeds
    journal/SHARD/, journal/workers/           what attempts have done so far, appended; dropped
                                               when the shard is settled (worker_journals.py)
    results/SHARD/KIND-FIRST-ATTEMPT.parquet   receipts or part records of one lease
    sealed/...                                 which results count (manifests/job/seals.py)
    superseded/ATTEMPT/...                     seals taken back: their failures are tried again
    verified/EPOCH/                            results and seals of a later verification
    history/NUMBER.json                        the life of a migration (manifests/job/history.py)
    signed.json                                of which receipts the last signed checkpoint was made
    begun                                      workers were started: it may have moved something
    status.json, verify-status.json            caches for people and metrics, replaced every second
    plan-status.json, reconcile-status.json    the same of a listing, while it lasts
    reconcile.json, failures.parquet           reports, made again by every run
    probing.json                               where a probe writes, until its canaries are gone
    probe-removed.json                         the probe's canaries are gone from the target
    pseudonyms.key                             makes the names that reports show instead of keys
    driver.lock                                held by the living driver
    present.lock                               held by who goes on from one pass to the next

A thousand shards share a folder, so that none has more than ten thousand entries: results/SHARD is
results/00012/00012345. Earlier editions had no folder in between, and their jobs are read as well.

Folders are 0700 and files 0600, or a group's too (manifests/access.py).

Everything but journals, caches and reports is written once, and flushed to disk before its name
appears: a reader sees a whole file or none. Most names are one writer's alone; where several may
write one name, the first counts (write_once). A full or failing disk is a JobDirectoryError, raised
before the next side effect.

What is asked of the file system is what network file systems have: renames that are atomic, and
that do not put a folder in the place of one that is not empty; flock; fsync. No hard links.
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
from noria.manifests.json_text import json_text
from noria.manifests.schema import SCHEMA_VERSION

ATTEMPTS_PER_EPOCH = 1_000_000_000
"""Attempts of epoch E are E * ATTEMPTS_PER_EPOCH + 1, 2, ...: unique, without a write a lease."""
EPOCHS_MAX = 2**63 // ATTEMPTS_PER_EPOCH - 1
"""Attempts are stored as int64."""
_EPOCH = re.compile(r"epochs/([0-9]{10})\.json")

SHARDS_TOGETHER = 1_000
"""Shards that share a folder."""
JOURNALS = "journal"
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

        What exists of the path is tried: a file is made, flushed and locked, and a folder is
        renamed. Some network file systems cannot do that. Raises ConfigurationError.
        """
        place = JobDirectory.existing_part(root)
        scratch = place / f".noria-place-{secrets.token_hex(8)}"
        what = "files"
        try:
            scratch.mkdir(PRIVATE)
            with open(scratch / "file", "xb", opener=open_new) as file:
                os.fsync(file.fileno())
                what = "locks (flock)"
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            what = "folders whose renames are safe"
            _try_renames(scratch)
        except OSError as error:
            raise ConfigurationError(
                f"a job directory cannot be at {root}: {what} cannot be made there "
                f"({error.strerror}); name one on another file system"
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @staticmethod
    def existing_part(root: Path) -> Path:
        """What exists of a path: the folder that check_place() tries."""
        return next(each for each in (root, *root.absolute().parents) if each.exists())

    @classmethod
    def create(cls, root: Path, job: dict[str, Any]) -> JobDirectory:
        """Make a new job directory. Raises JobDirectoryError if there is another job."""
        with disk_errors(root):
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
        if text is None and (self.root / "fleet.json").is_file():
            raise ConfigurationError(
                f"{self.root} holds many datasets: name the directory of one of them, "
                f"{self.root}/datasets/NAME"
            )
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
        with disk_errors(self.root):
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
        """Durable put-if-absent. True if this call wrote the file, False if it was there.

        Writers may be on any machine, and may end at any line. One is elected: a folder that holds
        its content is renamed to `ballot`, which fails while that holds another. What was elected
        gets the name of the file, by whoever sees it there first; so nobody waits for a dead
        writer. It leaves the ballot by becoming the file. Whatever is elected later finds the file
        there, and is withdrawn.
        """
        target = self.root / name
        ballot = target.with_name(f".{target.name}.ballot")
        mine = secrets.token_hex(16)
        candidate = target.with_name(f".{target.name}.{mine}")
        with disk_errors(self.root):
            make_folders(candidate)
            try:
                _write_flushed(candidate / mine, data)
                won = _is_elected(candidate, ballot)
                elected = _listed(ballot)
            finally:
                # A change of our own, after which a client of NFS looks again at what is there.
                shutil.rmtree(candidate, ignore_errors=True)
            for each in elected:
                with contextlib.suppress(FileNotFoundError):  # it has become the file
                    if not target.exists():
                        os.rename(ballot / each, target)
                    elif each == mine:
                        (ballot / each).unlink()
                        won = False
            with contextlib.suppress(OSError):  # gone, or not empty again
                ballot.rmdir()
            _flush_directory(target.parent)
        return won

    def put(self, name: str, data: bytes) -> None:
        """Write a small file, durably; nobody else writes that name, or only the same."""
        target = self.root / name
        with disk_errors(self.root):
            make_folders(target.parent)
            os.replace(_write_scratch(target, data), target)
            _flush_directory(target.parent)

    def publish(self, scratch: Path, name: str) -> None:
        """Give a finished scratch file its name, durably; no other attempt uses that name.

        The scratch file may lie on another file system.
        """
        target = self.root / name
        with disk_errors(self.root):
            make_folders(target.parent)
            try:
                _flush_file(scratch, file_mode(self.root))
                os.replace(scratch, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
                try:
                    shutil.copyfile(scratch, beside)
                    _flush_file(beside, file_mode(self.root))
                    os.replace(beside, target)
                finally:
                    beside.unlink(missing_ok=True)
                scratch.unlink()
            _flush_directory(target.parent)

    def replace(self, name: str, data: bytes) -> None:
        """Put a cache or report in place of the last one; a reader sees the old or the new one."""
        target = self.root / name
        with disk_errors(self.root):
            make_folders(target.parent)
            os.replace(_write_scratch(target, data), target)

    def remove(self, name: str) -> None:
        """Remove a file, durably; one that is not there is no error."""
        with disk_errors(self.root):
            (self.root / name).unlink(missing_ok=True)
            _flush_directory((self.root / name).parent)

    def discard(self, name: str) -> None:
        """Remove a file that nobody needs any more, or a folder if it is empty.

        What a failing disk or a kill leaves does no harm.
        """
        place = self.root / name
        with contextlib.suppress(OSError):
            try:
                place.unlink()
            except IsADirectoryError:
                place.rmdir()

    def folders(self, directory: str) -> list[str]:
        """Names of the folders right below a directory of this job, in order."""
        return [name for name, is_folder in self._entries(directory) if is_folder]

    def names(self, directory: str) -> Iterator[str]:
        """Names below a directory of this job, in order, without scratch files."""
        for name, is_folder in self._entries(directory):
            if is_folder:
                yield from self.names(name)
            else:
                yield name

    def _entries(self, directory: str) -> list[tuple[str, bool]]:
        """What is right below a directory, in order, and whether it is a folder."""
        try:
            with os.scandir(self.root / directory) as found:
                shown = [each for each in found if not each.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _disk_error(self.root, error) from error
        return sorted((f"{directory}/{each.name}", each.is_dir()) for each in shown)

    def journal(self, shard: int, attempt: int) -> JournalFile:
        """A journal of one attempt alone, to append to."""
        return JournalFile(self.root / journal_name(shard, attempt))

    def note(self, name: str) -> None:
        """Make an empty file, durably; one that is there stays as it is."""
        place = self.root / name
        with disk_errors(self.root):
            make_folders(place.parent)
            open(place, "ab", opener=open_new).close()
            _flush_directory(place.parent)

    def keep_journals(self, shard: int) -> None:
        """Have drop_journal() leave this shard alone: its journals may know of open uploads."""
        self.note(f"{shard_folder(JOURNALS, shard)}/{_KEEP}")

    def drop_journal(self, shard: int) -> None:
        """Forget a shard's journals once seals cover it."""
        for folder in journal_folders(shard):
            if not (self.root / folder / _KEEP).exists():
                shutil.rmtree(self.root / folder, ignore_errors=True)

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
        with disk_errors(directory.root):
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
    """An append-only file, made by the first append(), which returns once the bytes are on disk.

    After an append that failed, every other one fails: a reader goes no further than what it left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._is_whole = True

    def append(self, data: bytes) -> None:
        """Raises JobDirectoryError, also if the file was dropped."""
        if not self._is_whole:
            raise JobDirectoryError(f"{self._path} could not be written earlier; run again")
        self._is_whole = False
        with disk_errors(self._path.parent):
            if self._descriptor is None:
                make_folders(self._path.parent)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                self._descriptor = open_new(str(self._path), flags)
                _flush_directory(self._path.parent)
            if os.fstat(self._descriptor).st_nlink == 0:
                raise JobDirectoryError(
                    f"{self._path.name} was dropped: what this attempt does counts no more"
                )
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fdatasync(self._descriptor)
        self._is_whole = True

    def close(self) -> None:
        """May be repeated. What append() has returned for is on disk, whatever closing says."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # Also if it fails the number is free, and may be another file's at once.
            with contextlib.suppress(OSError):
                os.close(descriptor)


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


def shard_folder(area: str, shard: int) -> str:
    """The folder of a shard below an area of the job, such as results."""
    return f"{area}/{shard // SHARDS_TOGETHER:05d}/{shard:08d}"


def flat_shard_folder(area: str, shard: int) -> str:
    """Where jobs of earlier editions have it."""
    return f"{area}/{shard:08d}"


def journal_folders(shard: int) -> tuple[str, str]:
    """Where a shard's journals are; those of earlier editions first."""
    return flat_shard_folder(JOURNALS, shard), shard_folder(JOURNALS, shard)


def journal_name(shard: int, attempt: int) -> str:
    return f"{shard_folder(JOURNALS, shard)}/{attempt:018d}.journal"


def _json(value: dict[str, Any]) -> bytes:
    return json_text(value).encode()


def _write_scratch(target: Path, data: bytes) -> Path:
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        _write_flushed(scratch, data)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise
    return scratch


def _write_flushed(path: Path, data: bytes) -> None:
    with open(path, "wb", opener=open_new) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_file(path: Path, mode: int) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        settle_mode(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_elected(candidate: Path, ballot: Path) -> bool:
    """Whether a folder that is not empty got the name of the ballot."""
    try:
        os.rename(candidate, ballot)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _try_renames(place: Path) -> None:
    """See that folders can be renamed, but not to the name of one that is not empty.

    Raises OSError.
    """
    for name in ("first", "second"):
        (place / name).mkdir(PRIVATE)
        (place / name / name).touch()
    if not _is_elected(place / "first", place / "ballot"):
        raise OSError(errno.ENOTSUP, "a new name is taken")
    if _is_elected(place / "second", place / "ballot"):
        raise OSError(errno.ENOTSUP, "one replaces another")


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
def disk_errors(root: Path) -> Iterator[None]:
    """Raise JobDirectoryError for what the file system of a job directory refuses in the block."""
    try:
        yield
    except OSError as error:
        raise _disk_error(root, error) from error
