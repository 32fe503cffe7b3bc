"""What systemd reads in a unit of deploy/machines, as far as a test runs it without systemd."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.servers import ROOT

MACHINES = ROOT / "deploy" / "machines"
HEAD, WORKER, JOB = "noria-ray-head.service", "noria-ray-worker.service", "noria-job@.service"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file: the values of each setting, in order."""

    settings: Mapping[str, tuple[str, ...]]

    def one(self, name: str) -> str:
        """The value of a setting that is given once."""
        (value,) = self.settings[name]
        return value

    def environment(self) -> dict[str, str]:
        """What its Environment= lines set."""
        words = [word for line in self.settings["Environment"] for word in shlex.split(line)]
        return dict(word.split("=", 1) for word in words)

    def command(self, name: str, environment: Mapping[str, str], instance: str = "") -> list[str]:
        """The words of ExecStart= and the like, with ${NAME} and %i put in."""
        words = shlex.split(self.one(name).replace("%i", instance))
        return [re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], word) for word in words]


def read_unit(name: str) -> Unit:
    settings: dict[str, list[str]] = {}
    for line in (MACHINES / name).read_text().replace("\\\n", " ").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return Unit({key: tuple(values) for key, values in settings.items()})


def read_environment(path: Path) -> dict[str, str]:
    """What an EnvironmentFile= sets."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
