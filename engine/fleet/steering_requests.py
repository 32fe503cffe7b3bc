"""What a person asks of many datasets at once, priorities included: checked, and heard."""

from __future__ import annotations

import difflib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from noria.engine.config.reading import steered_config, steered_name
from noria.engine.config.refused_settings import WrongSettings, nearest_name
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.priorities import LEAST, MOST, PREFIX, set_priorities
from noria.engine.live_settings import LiveSettings
from noria.engine.status import JobStatus, Phase, load_status
from noria.engine.steering.limits import STEERED, LimitsInForce
from noria.engine.steering_requests import SteeredMigration
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.control import SettingValue, read

_WHERE: Final = "noria set"


def steered_fleet(root: Path) -> SteeredMigration:
    """All datasets of a directory together. Raises ConfigurationError, JobDirectoryError."""
    fleet = FleetDirectory(root)
    fleet.names()

    def begun() -> LimitsInForce:
        return LiveSettings(root, fleet.run_config(), says=False).limits

    return SteeredMigration(fleet.files, driven=lambda: run_status(fleet), begun=begun)


def run_status(fleet: FleetDirectory) -> JobStatus | None:
    """What the living run of all datasets has said last; None: there is none."""
    found = load_status(fleet.files)
    if not fleet.files.is_held(None if found is None else time.time() - found.updated_seconds):
        return None
    if found is not None and found.phase.has_driver:
        return found
    return JobStatus(job=fleet.root.name, phase=Phase.STARTING, updated_seconds=time.time())


class FleetRequests:
    """Settings of all datasets and priorities of each, as people write them."""

    def __init__(self, root: Path) -> None:
        """Raises ConfigurationError, JobDirectoryError."""
        self._fleet = FleetDirectory(root)
        self._noted = self._fleet.priorities()

    def priorities(self) -> dict[str, tuple[int, str]]:
        """Dataset -> its priority and who gave it: of those that have one, or were given one.

        What is damaged gives none.
        """
        try:
            said = set_priorities(read(self._fleet.files), datetime.now(UTC))
        except JobDirectoryError:
            said = {}
        found = {
            name: (priority, "from the job file")
            for name, priority in self._noted.items()
            if priority
        }
        given = {name: (each.priority, f"by {each.by}") for name, each in said.items()}
        return {name: each for name, each in (found | given).items() if name in self._noted}

    def settings(self, given: Sequence[str]) -> dict[str, SettingValue]:
        """What texts such as `bandwidth=2GB/s` and `priority.genomes=5` say.

        Raises WrongSettings, for all of it.
        """
        settings, wrong = dict[str, SettingValue](), list[str]()
        for text in (each for each in given if each.startswith(PREFIX)):
            name, equals, value = text.partition("=")
            fault = self._fault(name) or (None if equals else f"write it as {name}=NUMBER")
            if fault is None and not _is_priority(value):
                fault = f"it should be a whole number from {LEAST} to {MOST}"
            if fault is None:
                settings[name] = int(value)
            else:
                wrong.append(f"{_WHERE}: {name}: {fault}")
        others = [each for each in given if not each.startswith(PREFIX)]
        try:
            settings |= steered_config(others, _WHERE).given if others else {}
        except WrongSettings as error:
            wrong = [*error.lines, *wrong]
        if wrong:
            raise WrongSettings(wrong)
        return settings

    def names(self, given: Sequence[str]) -> dict[str, None]:
        """Names that are to be cleared. Raises WrongSettings, for all of them."""
        priorities = [each for each in given if each.startswith(PREFIX)]
        wrong = [
            f"{_WHERE}: {name}: {fault}" for name in priorities if (fault := self._fault(name))
        ]
        others = [each for each in given if not each.startswith(PREFIX)]
        try:
            names = setting_names(others)
        except WrongSettings as error:
            wrong = [*error.lines, *wrong]
        if wrong:
            raise WrongSettings(wrong)
        return names | dict.fromkeys(priorities)

    def _fault(self, name: str) -> str | None:
        """Why this is not the priority of a dataset; None: it is."""
        dataset = name.removeprefix(PREFIX)
        if dataset in self._noted:
            return None
        near = difflib.get_close_matches(dataset, self._noted, n=1, cutoff=0.6)
        return "no such dataset" + (f"; did you mean {PREFIX}{near[0]}?" if near else "")


def setting_names(given: Sequence[str]) -> dict[str, None]:
    """Names of settings that are to be cleared. Raises WrongSettings."""
    names = {steered_name(each.partition("=")[0]): None for each in given}
    wrong = [
        f"{_WHERE}: {name}: no such setting{nearest_name(name, {'': STEERED}, '')}"
        for name in names
        if name not in STEERED
    ]
    if wrong:
        raise WrongSettings(wrong)
    return names


def _is_priority(text: str) -> bool:
    try:
        return LEAST <= int(text) <= MOST
    except ValueError:
        return False
