"""The directory of a migration: a first job, and the passes that followed it.

    job.json, manifest/, ...     the first pass, which is a job like any other
    passes/000002/               each later pass: a job directory of its own
    ways-back/000001/            each roll-back: a migration of its own, whose source is this target
    state/000001/                what stood at the target after a pass (state.py); derived

A directory of an edition that knew no passes is the first pass of a migration that has no others
yet.
"""

from __future__ import annotations

import itertools
import os.path
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.fold import fold
from noria.manifests.passes.reversal import REVERSE_BASE, write_returned, write_reversed
from noria.manifests.passes.state import State, drop_state, open_state

PASSES = "passes"
STATES = "state"
WAYS_BACK = "ways-back"
ENDED_FILE = "ended"
_NUMBER = re.compile(r"[0-9]{6,}")


class Migration:
    """Where the passes and states of a migration are; `root` is the first job's directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def last(self) -> int:
        """The number of the latest pass, from 1 on; it may be planned in part only."""
        folder = self.root / PASSES
        names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        numbers = [
            int(name)
            for name in names
            if _NUMBER.fullmatch(name) and JobDirectory.exists(folder / name)
        ]
        return max(numbers, default=1)

    def place(self, number: int) -> Path:
        """The job directory of a pass, which need not be there yet."""
        return self.root if number == 1 else self.root / PASSES / f"{number:06d}"

    @property
    def current(self) -> Path:
        """The job directory of the latest pass."""
        return self.place(self.last)

    def state_place(self, number: int) -> Path:
        return self.root / STATES / f"{number:06d}"

    def state(self, number: int) -> State:
        """What stood after a pass that has ended; made now, from the seals, if it is not there.

        Raises JobDirectoryError as fold() does.
        """
        known = number
        while known and (found := open_state(self.state_place(known))) is None:
            known -= 1
        state = found if known else None
        for each in range(known + 1, number + 1):
            state = self.fold(each, state)
        assert state is not None, "a pass has a number from 1 on"
        return state

    def forget(self, number: int) -> None:
        """Drop the state after a pass: its seals may have become others.

        Raises JobDirectoryError if it cannot be removed.
        """
        drop_state(self.state_place(number))

    def forget_before(self, number: int) -> None:
        """Drop the states of earlier passes: each takes as much room as all rows that stand.

        Raises JobDirectoryError if one cannot be removed.
        """
        home = self.root / STATES
        names = [each.name for each in home.iterdir()] if home.is_dir() else []
        for name in names:
            if _NUMBER.fullmatch(name) and int(name) < number:
                self.forget(int(name))

    def fold(self, number: int, before: State | None) -> State:
        """Make the state after a pass from the one before it."""
        directory = JobDirectory.open(self.place(number))
        reverses = directory.job().get("reverses")
        if number == REVERSE_BASE and reverses is not None:
            return self._reversed(Migration(self.root.parent.parent), int(reverses))
        state = fold(directory, number, before, self.state_place(number))
        for back in self.ways_back():
            if back.reverses == number and back.has_ended:
                returned = back.migration.state(back.migration.last)
                state = write_returned(state, returned, self.state_place(number))
        return state

    def _reversed(self, forward: Migration, number: int) -> State:
        """What a way back begins with: what stood after pass `number` before anything came back."""
        before = forward.state(number - 1) if number > 1 else None
        place = self.state_place(0)
        try:
            stood = fold(JobDirectory.open(forward.place(number)), number, before, place)
            return write_reversed(stood, self.state_place(REVERSE_BASE))
        finally:
            drop_state(place)

    def has_gone_on(self, number: int) -> bool:
        """Whether a later pass, or a way back, may have replaced what this pass has left."""
        return number < self.last or any(
            back.has_ended and back.reverses == number for back in self.ways_back()
        )

    def ways_back(self) -> Iterator[WayBack]:
        """All roll-backs, in order; the last one has not ended, and may not have begun."""
        for number in itertools.count(1):
            back = WayBack(self.root / WAYS_BACK / f"{number:06d}")
            yield back
            if not back.has_ended:
                return


@dataclass(frozen=True, slots=True)
class WayBack:
    """A roll-back: what changed at the target since a switch goes to the source."""

    root: Path

    @property
    def migration(self) -> Migration:
        return Migration(self.root)

    @property
    def exists(self) -> bool:
        return JobDirectory.exists(self.root)

    @property
    def reverses(self) -> int | None:
        """The pass after which it was begun; None: it was not."""
        return int(JobDirectory(self.root).job()["reverses"]) if self.exists else None

    @property
    def has_ended(self) -> bool:
        return (self.root / ENDED_FILE).exists()

    def note_end(self) -> None:
        """From here on what stands at the target is what this has found there."""
        JobDirectory(self.root).note(ENDED_FILE)


def outermost(directory: Path) -> Path:
    """The directory that people name for this job: of its migration, or of the one it reverses."""
    root = migration_of(directory)[0].root
    above = root.parent.parent
    is_way_back = root.parent.name == WAYS_BACK and JobDirectory.exists(above)
    return outermost(above) if is_way_back else root


def migration_of(directory: Path) -> tuple[Migration, int]:
    """The migration that a job directory belongs to, and the number of its pass there."""
    place = Path(os.path.abspath(directory))
    for each in (place, place.resolve()):  # passes/ may be a link itself, or be reached by one
        root = each.parent.parent
        is_named = each.parent.name == PASSES and _NUMBER.fullmatch(each.name)
        if is_named and JobDirectory.exists(root):
            return Migration(root), int(each.name)
    return Migration(place), 1
