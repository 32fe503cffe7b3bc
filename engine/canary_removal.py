"""Canaries of the probe are removed while a job goes on, and before its command ends.

Moving need not wait for it. `probe-removed.json` in the job directory says that nothing is left: a
command that was killed in between has written none, and the next one removes what is there.

`probing.json` stands in the directory before the first canary is written, and says where that is
and under which token. It goes once nothing is left, so a plan that was killed before it had a job
can be cleaned up by the next command on the directory, whatever that is planned for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from noria.engine.config.jobfile import EndConfig
from noria.engine.config.stores import open_end
from noria.manifests.count_text import count_text
from noria.manifests.errors import JobDirectoryError, NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.canaries import Canaries
from noria.workers.stores.protocol import TargetStore

log = logging.getLogger("noria.planning")

REMOVED_FILE: Final = "probe-removed.json"
NOTE_FILE: Final = "probing.json"
TOKEN: Final = re.compile(r"[0-9a-f]{12}")
INTERRUPTED_SECONDS: Final = 10.0
"""How long it may go on after Ctrl-C: it would be the last thing that a person waits for."""


class CanaryRemoval:
    """The removal of the canaries of one probe."""

    def __init__(self, canaries: Canaries | None) -> None:
        """`canaries` is None if nothing is to be removed."""
        self._canaries = canaries
        self._call: BackgroundCall[int] | None = None
        self._directory: JobDirectory | None = None
        self._note: ProbeNote | None = None
        self._left = 0
        self.left_names: tuple[str, ...] = ()
        """What finish() found that the target refuses to delete, if it lists that."""

    @property
    def needed(self) -> bool:
        """False if there is nothing to remove, or no more."""
        return self._canaries is not None

    def begin(self) -> None:
        """Remove them from now on. A repeat does nothing."""
        if self._canaries is not None and self._call is None:
            self._call = BackgroundCall(self._canaries.remove, "canaries")

    def note_in(self, directory: JobDirectory) -> None:
        """Write down in this job directory that nothing is left, once that is so."""
        self._directory = directory

    def drop_note(self, note: ProbeNote) -> None:
        """Drop the note of this probe once nothing is left of it."""
        self._note = note

    def finish(self, *, silently: bool = False) -> int:
        """Wait until all are removed; return how many could not be. May be repeated.

        If the target does not even list them, that counts as one. Both are logged, unless the
        caller says so itself.
        """
        self.begin()
        if self._call is None:
            return self._left
        try:
            self._left = self._call.result()
        except NoriaError as error:
            self._left = 1
            if not silently:
                log.warning("the probe's canaries cannot be removed: %s", error.message)
        else:
            assert self._canaries is not None, "there is a call"
            self.left_names = self._canaries.left
            if self._left and not silently:
                log.warning(
                    "%s of the probe left below %s: delete there what is left, or allow the "
                    "target's credentials to delete, then run again",
                    count_text(self._left, "canary"),
                    self._canaries.base,
                )
        self._call = self._canaries = None
        if not self._left and self._directory is not None:
            with contextlib.suppress(JobDirectoryError):  # the next command looks once more
                self._directory.write_once(REMOVED_FILE, b"{}\n")
        if not self._left and self._note is not None:
            self._note.drop()
        return self._left

    def finish_soon(self) -> None:
        """As finish(), but wait for no longer than INTERRUPTED_SECONDS."""
        self.begin()
        if self._call is not None and self._call.ends_within(INTERRUPTED_SECONDS):
            self.finish()


class ProbeNote:
    """What a job directory says about a probe, from before its first canary until its last."""

    def __init__(self, root: Path) -> None:
        self._directory = JobDirectory(root)
        self._path = root / NOTE_FILE

    def write(self, target: EndConfig, token: str) -> None:
        """Durable when it returns. Raises JobDirectoryError, also if there is another's note."""
        note = {"probe_token": token, "target": target.model_dump(mode="json")}
        text = json.dumps(note).encode() + b"\n"
        if (
            not self._directory.write_once(NOTE_FILE, text)
            and self._directory.read(NOTE_FILE) != text
        ):
            raise JobDirectoryError(
                f"{self._path} names canaries at another target that could not be removed: allow "
                "to delete them there, or name another directory with --job"
            )

    def removal(self) -> CanaryRemoval | None:
        """What removes the canaries of a probe that was killed; None if there was none."""
        text = self._directory.read(NOTE_FILE)
        if text is None:
            return None
        try:
            note: Mapping[str, Any] = json.loads(text)
            token, target = note["probe_token"], EndConfig.model_validate(note["target"])
            if not TOKEN.fullmatch(token):
                raise ValueError("not a token")
        except (ValueError, LookupError, TypeError, RecursionError):
            raise JobDirectoryError(
                f"{self._path} is damaged: remove what is below .noria-probe-* at the target, then "
                "this file"
            ) from None
        removal = CanaryRemoval(Canaries(open_end(target), target.location.prefix, token))
        removal.drop_note(self)
        return removal

    def drop(self) -> None:
        """Forget it, and a folder that holds nothing else: no job came of that plan.

        A note that stays has the next command look once more.
        """
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()  # refused if anything is in it


def lone_probe_root(end: EndConfig, environment: Mapping[str, str] = os.environ) -> Path | None:
    """Where a probe of this target is noted if no job is about it; one place for each target.

    None without a home: nowhere else would a note be believed.
    """
    home = environment.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):
        folder = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
        what = repr((str(end.location), end.endpoint)).encode(errors="surrogateescape")
        return folder / "noria" / "probes" / hashlib.sha256(what).hexdigest()
    return None


def remove_of_killed_plan(root: Path | None, *, silently: bool = False) -> int | None:
    """Remove what a plan that was killed before it had a job has left at its target.

    Return how many canaries and uploads could not be removed; None if there was no such plan.
    """
    removal = None if root is None else ProbeNote(root).removal()
    return None if removal is None else removal.finish(silently=silently)


def pending_removal(directory: JobDirectory, target: TargetStore, prefix: str) -> CanaryRemoval:
    """The removal that a job directory still waits for: none, if it was done or no probe was."""
    token = directory.job().get("probe_token")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        return CanaryRemoval(None)
    if directory.read(REMOVED_FILE) is not None and directory.read(NOTE_FILE) is None:
        return CanaryRemoval(None)
    removal = CanaryRemoval(Canaries(target, prefix, token))
    removal.note_in(directory)
    removal.drop_note(ProbeNote(directory.root))
    return removal
