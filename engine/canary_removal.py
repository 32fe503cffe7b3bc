"""Canaries of the probe are removed while a job goes on, and before its command ends.

Moving need not wait for it. `probe-removed.json` in the job directory says that nothing is left: a
command that was killed in between has written none, and the next one removes what is there.
"""

from __future__ import annotations

import contextlib
import logging
import re
from typing import Final

from noria.manifests.errors import JobDirectoryError, NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.workers.stores.background import BackgroundCall
from noria.workers.stores.canaries import Canaries
from noria.workers.stores.protocol import TargetStore

log = logging.getLogger("noria.planning")

REMOVED_FILE: Final = "probe-removed.json"
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
        self._left = 0

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

    def finish(self) -> int:
        """Wait until all are removed; return how many could not be. May be repeated.

        If the target does not even list them, that counts as one.
        """
        self.begin()
        if self._call is None:
            return self._left
        try:
            self._left = self._call.result()
        except NoriaError as error:
            self._left = 1
            log.warning("the probe's canaries cannot be removed: %s", error.message)
        else:
            if self._left:
                assert self._canaries is not None, "there is a call"
                log.warning(
                    "%d canaries of the probe are left below %s: delete them there, or allow the "
                    "target's credentials to delete, then run again",
                    self._left,
                    self._canaries.base,
                )
        self._call = self._canaries = None
        if not self._left and self._directory is not None:
            with contextlib.suppress(JobDirectoryError):  # the next command looks once more
                self._directory.write_once(REMOVED_FILE, b"{}\n")
        return self._left

    def finish_soon(self) -> None:
        """As finish(), but wait for no longer than INTERRUPTED_SECONDS."""
        self.begin()
        if self._call is not None and self._call.ends_within(INTERRUPTED_SECONDS):
            self.finish()


def pending_removal(directory: JobDirectory, target: TargetStore, prefix: str) -> CanaryRemoval:
    """The removal that a job directory still waits for: none, if it was done or no probe was."""
    token = directory.job().get("probe_token")
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        return CanaryRemoval(None)
    if directory.read(REMOVED_FILE) is not None:
        return CanaryRemoval(None)
    removal = CanaryRemoval(Canaries(target, prefix, token))
    removal.note_in(directory)
    return removal
