"""What there is to tell of many datasets: what each one's story comes to, and what they add up to.

Of each dataset a few figures stay in memory, never its receipts; its own report says the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.engine.config.datasets import DatasetConfig
from noria.engine.config.in_force import SettingInForce
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.rows import DatasetRow, dataset_rows
from noria.engine.report.document import (
    SteeringStory,
    Story,
    changed_settings,
    is_planned,
    steering_stories,
    tell,
    this_machine,
)
from noria.engine.report.timeline import SizedObjects, Sizes, Timeline, TimeSlot
from noria.engine.report.words import not_read_back
from noria.engine.status import NOT_PLANNED, REFUSED
from noria.manifests.errors import NoriaError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import Migration
from noria.version import VERSION

EDITION: Final = 1
"""Of the document: it grows when a field is dropped or gets another meaning."""
UNREAD: Final = "unread"
"""An open matter of a dataset whose directory cannot be read."""
_OF_ENDS: Final = ("source.", "target.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetStory:
    """What one dataset's story comes to."""

    name: str
    source: str
    """URL"""
    target: str
    phase: str
    """A Phase, or "not_planned", "planned" or "refused"."""
    state: str | None
    """Where its migration stands, from "planned" to "retired". None: it has no history yet."""
    is_at_cutover: bool = False
    """Its source is frozen, or the target in use."""
    message: str | None
    """Why it does not go on, is paused, or cannot be read."""
    open_matters: Mapping[str, int]
    """As of a Story, and refused, not_planned, unread. Empty: all is in order."""
    passes: int = 0
    objects: int = 0
    """What it answers for at the target, here and below."""
    bytes: int = 0
    levels: Mapping[str, int]
    changes: Mapping[str, int]
    left_out: Mapping[str, int]
    """Reason -> entries that the last pass's plan does not move."""
    passed_over: Mapping[str, int]
    """Cause -> entries of the last inventory that are not in the manifest."""
    is_reconciled: bool = False
    """The target was compared with every receipt after the last pass, and is in order."""
    is_read_back: bool = False
    """All that stands there was read back after it landed."""
    is_sealed: bool = False
    """Signed checkpoints cover the receipts as they stand."""
    updated_seconds: float | None = None
    """Unix time of its last news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStory:
    """The document."""

    edition: int
    made_seconds: float
    """Unix time."""
    noria: str
    """The version that made this."""
    machine: str
    """Where this was made: operating system and processor."""
    directory: str
    datasets: Sequence[DatasetStory]
    """In the order in which they were noted."""
    objects: int
    """What all of them answer for, here and below."""
    bytes: int
    levels: Mapping[str, int]
    changes: Mapping[str, int]
    left_out: Mapping[str, int]
    passed_over: Mapping[str, int]
    timeline: Sequence[TimeSlot]
    """What landed when, by the receipts of all passes of all datasets."""
    sizes: Sequence[SizedObjects]
    steering: Sequence[SteeringStory]
    """What was asked for of all together; of one alone: in its own report."""
    settings: Sequence[SettingInForce]
    """Those that all share and that are not defaults."""

    @property
    def open_datasets(self) -> Sequence[DatasetStory]:
        """Those that a person has to look at."""
        return [each for each in self.datasets if each.open_matters]


def tell_all(root: Path, *, show_keys: bool, on_story: Callable[[str, Story], None]) -> FleetStory:
    """Read what there is to tell of the datasets in this directory.

    `on_story` gets each dataset's name and whole story, one after the other. A dataset that cannot
    be read is told as such, and the others are told. Raises ConfigurationError if the directory
    holds no datasets; JobDirectoryError if what all share is damaged.
    """
    fleet = FleetDirectory(root)
    configs = fleet.datasets()
    timeline, sizes, told = Timeline(), Sizes(), list[DatasetStory]()
    for config, row in zip(configs, dataset_rows(fleet), strict=True):
        ends = (config.config.source.url, config.config.target.url)
        story, unread = _story(fleet, row.name, show_keys)
        if story is None:
            told.append(_without_story(row, ends, unread))
            continue
        timeline.include(story.timeline)
        sizes.include(story.sizes)
        told.append(_with_story(row, story))
        on_story(row.name, story)
    return FleetStory(
        edition=EDITION,
        made_seconds=time.time(),
        noria=VERSION,
        machine=this_machine(),
        directory=str(root),
        datasets=told,
        objects=sum(each.objects for each in told),
        bytes=sum(each.bytes for each in told),
        levels=_sum(each.levels for each in told),
        changes=_sum(each.changes for each in told),
        left_out=_sum(each.left_out for each in told),
        passed_over=_sum(each.passed_over for each in told),
        timeline=timeline.slots(),
        sizes=sizes.classes(),
        steering=steering_stories(fleet.files),
        settings=_shared_settings(fleet, configs),
    )


def _story(fleet: FleetDirectory, name: str, show_keys: bool) -> tuple[Story | None, str | None]:
    """A dataset's story; or None, and why: None if there is nothing to read yet."""
    place = fleet.place(name)
    if not (JobDirectory.exists(place) and (is_planned(place) or Migration(place).last > 1)):
        return None, None
    try:
        return tell(place, show_keys=show_keys), None
    except NoriaError as error:
        return None, error.message


def _without_story(row: DatasetRow, ends: tuple[str, str], unread: str | None) -> DatasetStory:
    matter = REFUSED if row.phase == REFUSED else NOT_PLANNED
    if unread is not None:
        matter = UNREAD
    return DatasetStory(
        name=row.name,
        source=ends[0],
        target=ends[1],
        phase=row.phase,
        state=row.state,
        message=unread or row.message,
        open_matters={matter: 1},
        levels={},
        changes={},
        left_out={},
        passed_over={},
    )


def _with_story(row: DatasetRow, story: Story) -> DatasetStory:
    matters = dict(story.open_matters)
    if row.phase == REFUSED:
        matters[REFUSED] = 1
    return DatasetStory(
        name=row.name,
        source=story.source,
        target=story.target,
        phase=row.shown_phase,
        state=row.state,
        is_at_cutover=row.is_at_cutover,
        message=row.message or row.paused,
        open_matters=matters,
        passes=len(story.passes),
        objects=story.standing.objects,
        bytes=story.standing.bytes,
        levels=story.standing.levels,
        changes=story.standing.changes,
        left_out=story.last.left_out,
        passed_over=story.last.passed_over,
        is_reconciled=story.last.reconciled,
        is_read_back=not_read_back(story) is None,
        is_sealed=story.sealed is not None and story.sealed.is_current,
        updated_seconds=story.last.updated_seconds,
    )


def _shared_settings(
    fleet: FleetDirectory, configs: Sequence[DatasetConfig]
) -> list[SettingInForce]:
    """A dataset's own, but for its ends; [run] is of all together."""
    if not configs:
        return []
    config = configs[0].config.model_copy(update={"run": fleet.run_config()})
    return [each for each in changed_settings(config) if not each.name.startswith(_OF_ENDS)]


def _sum(tallies: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total = Counter[str]()
    for each in tallies:
        total.update(each)
    return dict(total)
