"""Results of probes that are kept for an hour, so that the next plan for the same target need none.

    $XDG_CACHE_HOME/noria/targets/DIGEST.json      ~/.cache if that is not set

DIGEST is that of the version of Noria, the target's identity and the prefix. A file holds what the
probe found, and no name, address or secret. It is believed only if nobody but this user could have
written it. Only results that could not be better are kept: what a target could not do an hour ago,
it may do now, and no plan is to promise less for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from noria.manifests.errors import NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.strict_json import from_json
from noria.version import VERSION
from noria.workers.http.resting import RestingConnections
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import Checksum, TargetCapabilities, TargetStore

FRESH_SECONDS: Final = 3600.0
PATIENCE_SECONDS: Final = 30.0
"""The longest wait for another plan's probe of the same target."""
SIZE_MAX: Final = 64 * 1024
"""Bytes of a file. A larger one is none of these."""
BEST: Final = TargetCapabilities(
    checksum=Checksum.CRC64NVME,
    if_absent=True,
    checksum_in_trailer=True,
    atomic_complete=True,
    if_match=True,
    if_match_delete=True,
)
_NAME: Final = re.compile(r"[0-9a-f]{64}\.")


class ProbedTargets:
    """What the plans of one run have found and opened, for those that follow. Thread-safe.

    What a container does is the same below all of its prefixes. Who writes below one of them may
    lack the right to write below another, which its first write says. Of those that are planned at
    once the first one probes, and the others wait for what it finds.
    """

    def __init__(self) -> None:
        self._found: dict[str, TargetFacts] = {}
        self._probes: dict[str, threading.Event] = {}
        """The first probe of each target; set once it has ended."""
        self.connections = RestingConnections()
        """Of stores that are closed, at both ends."""
        self._places: set[Path] = set()

    def recall(self, identity: str) -> TargetFacts | None:
        """None: the caller is to probe this target, and to call keep() or give_up() then.

        Waits for the first probe, PATIENCE_SECONDS at most; whoever waits for longer than that, or
        for one that fails, probes as well.
        """
        mine = threading.Event()
        first = self._probes.setdefault(identity, mine)
        if first is not mine:
            first.wait(PATIENCE_SECONDS)
        return self._found.get(identity)

    def keep(self, identity: str, facts: TargetFacts) -> None:
        """Of two that probe at once, what the last one has found counts."""
        self._found[identity] = facts
        self.give_up(identity)

    def check_place(self, root: Path) -> None:
        """As JobDirectory.check_place(), once for all directories in the same folder."""
        place = JobDirectory.existing_part(root)
        if place not in self._places:
            JobDirectory.check_place(root)
            self._places.add(place)

    def give_up(self, identity: str) -> None:
        """Let nobody wait any longer. May be repeated, also after keep()."""
        if first := self._probes.get(identity):
            first.set()


class KnownTarget:
    """Where the result of the probe of one target is kept."""

    def __init__(
        self,
        target: TargetStore,
        prefix: str,
        environment: Mapping[str, str] = os.environ,
        *,
        probed: ProbedTargets | None = None,
    ) -> None:
        self._path: Path | None = None
        self._probed = ProbedTargets() if probed is None else probed
        identity = None
        with contextlib.suppress(NoriaError):  # whoever uses the credentials says what is wrong
            identity = target.identity
        self._identity = identity
        home = environment.get("XDG_CACHE_HOME", "")
        with contextlib.suppress(RuntimeError):  # no home
            folder = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
            if identity is not None:
                digest = hashlib.sha256(repr((VERSION, identity, prefix)).encode()).hexdigest()
                self._path = folder / "noria" / "targets" / f"{digest}.json"

    def recall(self) -> TargetFacts | None:
        """Return the result of a probe of the last hour; None if there is none to believe."""
        if self._identity is not None and (facts := self._probed.recall(self._identity)):
            return facts
        facts = self._kept()
        if facts is not None and self._identity is not None:
            self._probed.keep(self._identity, facts)
        return facts

    def _kept(self) -> TargetFacts | None:
        """What an earlier command has found."""
        if self._path is None:
            return None
        try:
            _refuse_others(os.lstat(self._path.parent), stat.S_IFDIR, 0o022)
            kept = json.loads(_read_own(self._path))
            age_seconds = time.time() - kept["probed"]
            facts = from_json(TargetFacts, kept["facts"])
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        fresh = 0 <= age_seconds < FRESH_SECONDS
        return facts if fresh and _could_not_be_better(facts.capabilities) else None

    def give_up(self) -> None:
        """Let no other plan of this run wait for a result any longer. May be repeated."""
        if self._identity is not None:
            self._probed.give_up(self._identity)

    def keep(self, facts: TargetFacts) -> None:
        """Keep a result for the next plans. Without a place for it, do nothing."""
        if self._identity is not None:
            self._probed.keep(self._identity, facts)
        if self._path is None or not _could_not_be_better(facts.capabilities):
            return
        text = json.dumps({"probed": time.time(), "facts": asdict(facts)})
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _refuse_others(os.lstat(self._path.parent), stat.S_IFDIR, 0o022)
            for old in _stale(self._path.parent):
                old.unlink(missing_ok=True)
            scratch = self._path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(scratch, flags, 0o600), "w") as file:
                file.write(text)
            os.replace(scratch, self._path)


def _could_not_be_better(capabilities: TargetCapabilities) -> bool:
    """Return True if nothing but a look before each upload or deletion is lost by believing this.

    A race that was lost says more than one that was won: a target that is not atomic stays so. Many
    that honour all other conditions honour none on a DELETE.
    """
    return replace(capabilities, atomic_complete=True, if_match_delete=True) == BEST


def _read_own(path: Path) -> bytes:
    """The content of a small file that only this user can write. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _refuse_others(status, stat.S_IFREG, 0o077)
        if status.st_size > SIZE_MAX:
            raise OSError("too large")
        return file.read(SIZE_MAX)


def _refuse_others(status: os.stat_result, kind: int, forbidden: int) -> None:
    """Raise OSError unless it is of this kind, this user's own, and without these permissions."""
    mode = status.st_mode
    if stat.S_IFMT(mode) != kind or status.st_uid != os.geteuid() or mode & forbidden:
        raise OSError("not this user's own")


def _stale(folder: Path) -> Iterator[Path]:
    """Files of ours, whole or torn, that nobody will believe any more."""
    for entry in os.scandir(folder):
        if (
            _NAME.match(entry.name)
            and time.time() - entry.stat(follow_symlinks=False).st_mtime > FRESH_SECONDS
        ):
            yield Path(entry.path)
