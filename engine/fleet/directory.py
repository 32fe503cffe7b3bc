"""The directory of a migration of many datasets.

    fleet.json                 the datasets that were named first, their ends; no secret
    added/000002.json          those that were added later, and so on
    datasets/NAME/             a migration directory like any other: every command takes it
    refused/NAME.json          why a dataset is not planned, or did not go on; replaced
    epochs/, driver.lock       one for each command that worked on all of them; held by it

fleet.json and what is below added/ are written once. What a job file says differently later is
refused for what is there, and added if it is new.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from noria.engine.config.datasets import (
    DatasetConfig,
    DatasetPattern,
    FleetConfig,
    made_datasets,
)
from noria.engine.config.jobfile import EndConfig, JobConfig, RunConfig
from noria.engine.config.reading import job_config
from noria.engine.trusted_ends import check_named, is_trusted_file, trust_file
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job.directory import JobDirectory
from noria.manifests.schema import SCHEMA_VERSION
from noria.manifests.strict_json import from_json

FLEET_FILE: Final = "fleet.json"
_ADDED: Final = "added"
_REFUSED: Final = "refused"
_CHANGEABLE: Final = ("run", "windows", "sync", "directory")
"""Sections of a job file that may be others the next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a dataset was not planned, or did not go on."""

    message: str
    cause: str
    at_seconds: float
    """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What a command has found in a job file beside what was there."""

    names: tuple[str, ...] = ()
    """Datasets that are new."""
    unnamed: tuple[str, ...] = ()
    """Datasets that are there, and that the file does not name any more."""


class FleetDirectory:
    """Reads and writes the directory. Methods may be repeated."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = JobDirectory(root)

    @classmethod
    def exists(cls, root: Path) -> bool:
        return (root / FLEET_FILE).is_file()

    @property
    def files(self) -> JobDirectory:
        """The directory's own files, and its lock."""
        return self._files

    def place(self, name: str) -> Path:
        """The migration directory of a dataset."""
        return self.root / "datasets" / name

    def create_or_add(self, config: FleetConfig, found: Sequence[DatasetConfig]) -> Added:
        """Note the datasets of a job file: those it names, and those `found` by its patterns.

        Raises ConfigurationError if the directory holds something else, or if the file says of a
        dataset that is there something else than before.
        """
        asked = (*config.datasets, *found)
        if not self.exists(self.root):
            if JobDirectory.exists(self.root):
                raise ConfigurationError(
                    f"{self.root} is the job directory of one job; name another one for many "
                    "datasets"
                )
            JobDirectory.check_place(self.root)
            self.root.mkdir(0o700, parents=True, exist_ok=True)
            facts = {
                "schema": SCHEMA_VERSION,
                "id": secrets.token_hex(6),
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "shared": dict(config.shared),
                "patterns": [asdict(each) for each in config.patterns],
                "datasets": [_as_entry(each) for each in asked],
            }
            if self._write(FLEET_FILE, facts):
                return Added(names=tuple(each.name for each in asked))
        self._refuse_other_sections(config)
        known = {each.name: each for each in self.datasets()}
        for each in asked:
            before = known.get(each.name)
            if before is not None and _as_entry(before) != _as_entry(each):
                raise ConfigurationError(
                    f"{each.name} has other ends, another priority or weight than {self.root} "
                    "holds for it: undo that, or give it another name"
                )
        new = [each for each in asked if each.name not in known]
        self.add(new)
        named = {each.name for each in asked}
        return Added(
            names=tuple(each.name for each in new),
            unnamed=tuple(name for name in known if name not in named),
        )

    def add(self, new: Sequence[DatasetConfig]) -> None:
        """Note datasets that were found later."""
        if new:
            *_, last = [f"{_ADDED}/{1:06}.json", *self._files.names(_ADDED)]
            number = int(Path(last).stem) + 1
            entries = [_as_entry(each) for each in new]
            self._write(f"{_ADDED}/{number:06}.json", {"datasets": entries, "at": time.time()})

    def datasets(self) -> list[DatasetConfig]:
        """All datasets, in the order in which they were noted. Raises JobDirectoryError."""
        facts = self._facts()
        entries = list(facts["datasets"])
        for name in self._files.names(_ADDED):
            entries += self._read(name)["datasets"]
        try:
            return made_datasets(facts["shared"], list(enumerate(entries)))
        except (ConfigurationError, LookupError, TypeError, ValueError) as error:
            raise self._damaged() from error

    def names(self) -> list[str]:
        """The names of all datasets, in order: cheaper than datasets()."""
        entries = list(self._facts()["datasets"])
        for name in self._files.names(_ADDED):
            entries += self._read(name)["datasets"]
        return [each["name"] for each in entries]

    def priorities(self) -> dict[str, int]:
        """Dataset -> its priority, as the job file has it; in order, and as cheap as names()."""
        entries = list(self._facts()["datasets"])
        for name in self._files.names(_ADDED):
            entries += self._read(name)["datasets"]
        return {each["name"]: int(each.get("priority", 0)) for each in entries}

    def patterns(self) -> list[DatasetPattern]:
        """The patterns by which more of them may be found."""
        try:
            return [from_json(DatasetPattern, each) for each in self._facts()["patterns"]]
        except (LookupError, TypeError, ValueError) as error:
            raise self._damaged() from error

    @property
    def shared(self) -> Mapping[str, Any]:
        """The sections that hold for all."""
        shared: Mapping[str, Any] = self._facts()["shared"]
        return shared

    def run_config(self) -> RunConfig:
        """[run], windows and guards, as the job file had them at first."""
        shared = self.shared
        of_run = {name: shared[name] for name in ("run", "windows") if name in shared}
        nowhere = {"source": {"url": "file:///"}, "target": {"url": "file:///"}}
        return job_config({**of_run, **nowhere}, str(self.root)).run

    def check_trust(self, dataset: DatasetConfig) -> None:
        """Raise ConfigurationError if an end that is not planned yet is named by these files alone.

        See trusted_ends.py; one that is planned has its own job.json.
        """
        if not all(map(is_trusted_file, self._contents())):
            check_named(self.root, str(self._facts()["id"]), dataset.config)

    def check_trust_of_listing(self, end: EndConfig) -> None:
        """The same for an end that is asked for names."""
        job = JobConfig(source=end, target=EndConfig(url="file:///"))
        self.check_trust(DatasetConfig(name="", config=job))

    def refuse(self, name: str, message: str, cause: str) -> None:
        """Note why a dataset is not planned, or did not go on."""
        refusal = Refusal(message=message, cause=cause, at_seconds=time.time())
        self._files.replace(f"{_REFUSED}/{name}.json", _json(asdict(refusal)))

    def accept(self, name: str) -> None:
        """It goes on; what was noted before holds no more."""
        self._files.discard(f"{_REFUSED}/{name}.json")

    def refusals(self) -> dict[str, Refusal]:
        """Name -> why it is not planned, or did not go on."""
        found = {}
        for path in self._files.names(_REFUSED):
            try:
                found[Path(path).stem] = from_json(
                    Refusal, json.loads(self._files.read(path) or b"")
                )
            except ValueError:
                continue  # a note for people
        return found

    def _facts(self) -> dict[str, Any]:
        facts = self._read(FLEET_FILE)
        if facts.get("schema") != SCHEMA_VERSION:
            raise JobDirectoryError(
                f"{self.root} has schema {facts.get('schema')}, this version of Noria reads "
                f"{SCHEMA_VERSION}; use the version that made it"
            )
        return facts

    def _read(self, name: str) -> dict[str, Any]:
        data = self._files.read(name)
        if data is None:
            raise ConfigurationError(f"{self.root} holds no datasets: it has no {name}")
        try:
            read = json.loads(data)
        except (ValueError, RecursionError):
            read = None
        if not isinstance(read, dict) or not isinstance(read.get("datasets"), list):
            raise self._damaged()
        return read

    def _contents(self) -> Iterator[bytes]:
        for name in (FLEET_FILE, *self._files.names(_ADDED)):
            yield self._files.read(name) or b""

    def _write(self, name: str, facts: Mapping[str, Any]) -> bool:
        """Write facts once; what this user has named in them is trusted from now on."""
        data = _json(facts)
        trust_file(data)
        return self._files.write_once(name, data)

    def _refuse_other_sections(self, config: FleetConfig) -> None:
        known = self.shared
        for section in sorted({*known, *config.shared} - {*_CHANGEABLE}):
            if _plain(known.get(section)) != _plain(config.shared.get(section)):
                raise ConfigurationError(
                    f"[{section}] is not what {self.root} was made with, and a plan never changes: "
                    "undo that, or name another directory"
                )

    def _damaged(self) -> JobDirectoryError:
        return JobDirectoryError(f"{self.root}/{FLEET_FILE} is damaged; restore it from a copy")


def _as_entry(dataset: DatasetConfig) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.config.source.model_dump(mode="json", exclude_unset=True),
        "target": dataset.config.target.model_dump(mode="json", exclude_unset=True),
        "priority": dataset.priority,
        "weight": dataset.weight,
    }


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(_plain(values), indent=1) + "\n").encode()


def _plain(values: Any) -> Any:
    """As JSON has it: a date of TOML is a text."""
    return json.loads(json.dumps(values, default=str))
