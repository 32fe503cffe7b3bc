"""`[[datasets]]`: a job file that names many, each with a source and a target of its own.

What a job file says in its other sections holds for all of them; [source] and [target] then have
no `url`, and say how the ends are reached. A source that ends in `/*` stands for all containers of
an account, all buckets of a service or all folders in a folder: see DatasetPattern.
"""

from __future__ import annotations

import fnmatch
import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.reading import (
    end_config,
    job_config,
    resolve_path,
    resolve_shared_paths,
    with_endpoints,
)
from noria.engine.config.refused_settings import (
    ERRORS_MAX,
    WrongSettings,
    setting_lines,
)
from noria.manifests.errors import ConfigurationError

DATASETS_MAX: Final = 100_000
"""Of one migration: their names and ends are held in memory, half a kilobyte each."""
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""Safe as the name of a folder and as a label."""
CONTAINER: Final = "{container}"
"""In the target and the name of a pattern: what was found."""
NO_CONTAINER: Final = "any"
"""A location names a container; nothing is asked of this one."""
_STAND_IN: Final = "-noria-container-"
"""For {container} while a path is made absolute and quoted."""
SHARED_SECTIONS: Final = ("inventory", "filter", "plan", "run", "sync")
OF_EACH: Final = {"plan": {"least_shards": 1}, "inventory": {"listing_streams": 4}}
"""Settings of each dataset unless the file says otherwise: others are at work beside it."""
_ALONE: Final = "it is for a job of one, and would not hold for many together"
_OF_ALL: Final = "a guard holds for all datasets together: write it as [source.guard]"
_HEADER: Final = re.compile(r"\s*\[\[\s*(?:datasets|\"datasets\"|'datasets')\s*\]\]\s*(?:#.*)?")
_SETTING: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*[.=]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetConfig:
    """One dataset: a migration of its own."""

    name: str
    config: JobConfig
    priority: int = 0
    """Those of a higher one get workers first."""
    weight: float = 1.0
    """Among those of one priority: its share of the workers, beside the others' weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPattern:
    """Datasets that are found: one for each container, bucket or folder of `everywhere`."""

    everywhere: Mapping[str, Any]
    """The source as a section has it; its URL ends in `/*`."""
    target: Mapping[str, Any]
    """With {container} in its URL."""
    name: str = CONTAINER
    include: tuple[str, ...] = ()
    """Patterns of names; none: all."""
    exclude: tuple[str, ...] = ()
    """Of what `include` lets through, what is left out."""
    priority: int = 0
    weight: float = 1.0

    def takes(self, container: str) -> bool:
        """Return True if a container of that name is a dataset of this pattern."""
        included = not self.include or any(
            fnmatch.fnmatchcase(container, each) for each in self.include
        )
        return included and not any(fnmatch.fnmatchcase(container, each) for each in self.exclude)

    def entry(self, container: str) -> dict[str, Any]:
        """The container as an entry of [[datasets]]."""
        source_url, target_url = str(self.everywhere["url"]), str(self.target["url"])
        source = source_url.removesuffix("*") + _in_url(container, source_url)
        target = target_url.replace(CONTAINER, _in_url(container, target_url))
        return {
            "name": self.name.replace(CONTAINER, _safe(container)),
            "source": {**self.everywhere, "url": source},
            "target": {**self.target, "url": target},
            "priority": self.priority,
            "weight": self.weight,
        }

    def listed_end(self) -> EndConfig:
        """What is asked for the names. Raises WrongSettings."""
        section = dict(self.everywhere)
        section["url"] = str(section["url"]).removesuffix("*")
        if not section["url"].startswith("file:"):
            section["url"] += NO_CONTAINER
        if section["url"].startswith("s3:"):
            section["path_style"] = True  # no bucket's name is part of the host
        return end_config(section, "the source of a pattern")


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """A whole job file with [[datasets]]."""

    shared: Mapping[str, Any]
    """The sections that hold for all, as they are in the file."""
    datasets: tuple[DatasetConfig, ...]
    """Those that are named, in the file's order."""
    patterns: tuple[DatasetPattern, ...] = ()
    directory: str | None = None
    settings: JobConfig = field(kw_only=True)
    """The shared sections, validated; its ends mean nothing."""


_Numbered = tuple[int | None, DatasetConfig]
"""A dataset and its number in what was asked for; None: it is there already."""
_Place = tuple[str, ...]
"""Service, account, container and prefix: sorted, what is below a place follows it."""


class _Entry(BaseModel):
    """An entry of [[datasets]]."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str | None = None
    source: dict[str, Any]
    target: dict[str, Any]
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    weight: Annotated[float, Field(ge=0.01, le=1000)] = 1.0
    include: tuple[str, ...] = Field(default=(), strict=False)
    exclude: tuple[str, ...] = Field(default=(), strict=False)


def names_datasets(path: Path) -> bool:
    """Return True if a job file names many datasets. What cannot be read does not."""
    try:
        return "datasets" in tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False


def read_datasets_file(path: Path, given: Mapping[str, Mapping[str, Any]]) -> FleetConfig:
    """Parse and validate a job file with [[datasets]]: all faults at once, with their lines.

    `given` are settings of a command, by section, instead of the file's own. Raises WrongSettings,
    ConfigurationError.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    entries = values.pop("datasets")
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise ConfigurationError(f"{path}: datasets: write each as a section, [[datasets]]")
    if not 0 < len(entries) <= DATASETS_MAX:
        raise ConfigurationError(
            f"{path}: datasets: there are {len(entries):,}; one migration has 1 to {DATASETS_MAX:,}"
        )
    faults = _Faults(str(path), _entry_lines(text, len(entries)))
    shared, ends = _shared(path, values, given, faults)
    settings = _settings(path, text, shared, faults)
    named: list[tuple[int, dict[str, Any]]] = []
    patterns: list[DatasetPattern] = []
    for number, entry in enumerate(entries):
        read = _read_entry(path.parent, entry, ends, number, faults)
        if isinstance(read, DatasetPattern):
            patterns.append(read)
        elif read is not None:
            named.append((number, read))
    # Without sections that are wrong, all else is looked at.
    datasets = made_datasets(shared if settings is not None else {}, named, faults)
    faults.raise_any()
    assert settings is not None
    return FleetConfig(
        shared=shared,
        datasets=tuple(datasets),
        patterns=tuple(patterns),
        directory=settings.directory,
        settings=settings,
    )


class _Faults:
    """What is wrong with a file, until all of it has been looked at."""

    def __init__(
        self,
        where: str,
        lines: Sequence[tuple[int, Mapping[str, int]]] | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        """`lines`: of each entry, its own line and those of its settings.

        `labels`: what an entry is told by if it stands in no file.
        """
        self.where = where
        self._labels = labels
        self._lines = lines
        self._found: list[str] = []

    def add(self, line: str) -> None:
        self._found.append(line)

    def add_entry(self, number: int, setting: str, message: str) -> None:
        """Of the entry with that number, counted from 0."""
        place = self.place(number, setting)
        self.add(f"{place}: {setting}: {message}" if setting else f"{place}: {message}")

    def place(self, number: int, setting: str = "") -> str:
        """Where an entry is, or one of its settings."""
        if self._labels is not None:
            return f"{self.where}, {self._labels[number]}"
        if self._lines is None:
            return f"{self.where}, dataset {number + 1}"
        at, settings = self._lines[number]
        return f"{self.where}, line {settings.get(setting.partition('.')[0], at)}"

    def raise_any(self) -> None:
        """Raise WrongSettings if anything is wrong."""
        if not self._found:
            return
        found = sorted(self._found, key=_line_of)
        if len(found) > ERRORS_MAX:
            more = f"{self.where}: and {len(found) - ERRORS_MAX:,} more"
            found = [*found[:ERRORS_MAX], more]
        raise WrongSettings(found)


def _line_of(fault: str) -> int:
    found = re.search(r", line ([0-9]+): ", fault)
    return 0 if found is None else int(found[1])


def _entry_lines(text: str, entries: int) -> list[tuple[int, Mapping[str, int]]] | None:
    """Of each [[datasets]], its line and those of its settings; None if that is not clear."""
    found: list[tuple[int, dict[str, int]]] = []
    is_inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if _HEADER.fullmatch(line):
            found.append((number, {}))
            is_inside = True
        elif line.lstrip().startswith("["):
            section = re.match(r"\s*\[\s*datasets\s*\.\s*(\w+)", line)
            is_inside = section is not None
            if section is not None and found:
                found[-1][1].setdefault(section[1], number)
        elif is_inside and (setting := _SETTING.match(line)):
            found[-1][1].setdefault(setting[1], number)
    return list(found) if len(found) == entries else None


def _shared(
    path: Path,
    values: dict[str, Any],
    given: Mapping[str, Mapping[str, Any]],
    faults: _Faults,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What holds for all datasets: the sections, and what both ends have in common."""
    ends: dict[str, dict[str, Any]] = {}
    for role in ("source", "target"):
        section = values.pop(role, {})
        if not isinstance(section, dict) or "url" in section:
            faults.add(f"{path}: {role}: each of [[datasets]] has a {role} of its own; name none")
            section = {}
        guard, run = section.pop("guard", None), values.setdefault("run", {})
        if guard is not None and isinstance(run, dict):
            run[f"{role}_guard"] = guard  # as all that may differ from run to run
        ends[role] = {**section, **given.get(role, {})}
    resolve_shared_paths(values, path.parent)
    for name in SHARED_SECTIONS:
        if given.get(name) and isinstance(values.get(name, {}), dict):
            values[name] = {**values.get(name, {}), **given[name]}
    return values, ends


def _settings(
    path: Path, text: str, shared: Mapping[str, Any], faults: _Faults
) -> JobConfig | None:
    nowhere = {"source": {"url": "file:///"}, "target": {"url": "file:///"}}
    try:
        try:
            settings = job_config({**shared, **nowhere}, str(path))
        except WrongSettings:
            settings = job_config({**shared, **nowhere}, str(path), setting_lines(text))
    except WrongSettings as error:
        for line in error.lines:
            faults.add(line)
        return None
    if settings.inventory.kind != "listing":
        faults.add(
            f'{path}: inventory.kind: many datasets are listed; kind = "{settings.inventory.kind}" '
            "is for a job of one"
        )
    if settings.proof.signing_key:
        faults.add(f"{path}: proof.signing_key: {_ALONE}")
    return settings


def _read_ends(entry: dict[str, Any], number: int, faults: _Faults) -> None:
    """An end that is given by its URL alone becomes a section."""
    for role in ("source", "target"):
        if isinstance(entry.get(role), str):
            entry[role] = {"url": entry[role]}
        elif isinstance(entry.get(role), dict) and entry[role].pop("guard", None) is not None:
            faults.add_entry(number, role, f"guard: {_OF_ALL}")


def _read_entry(
    folder: Path,
    entry: dict[str, Any],
    ends: Mapping[str, dict[str, Any]],
    number: int,
    faults: _Faults,
) -> DatasetPattern | dict[str, Any] | None:
    _read_ends(entry, number, faults)
    try:
        read = TypeAdapter(_Entry).validate_python(entry)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            setting = ".".join(map(str, each["loc"]))
            message = each["msg"].replace("Input should", "it should")
            if each["type"] == "extra_forbidden":
                message = f"no such setting; a dataset has {', '.join(_Entry.model_fields)}"
            elif each["type"] == "missing":
                message = "it is missing"
            faults.add_entry(number, setting, message)
        return None
    source, target = {**ends["source"], **read.source}, {**ends["target"], **read.target}
    url, target_url = source.get("url"), target.get("url")
    if not isinstance(url, str) or not isinstance(target_url, str):
        role = "source" if not isinstance(url, str) else "target"
        faults.add_entry(number, role, "it has no URL")
        return None
    if url.endswith("/*"):
        return _pattern(folder, read, source, target, number, faults)
    if read.name is None:
        faults.add_entry(number, "", "it has no name; each dataset has one")
        return None
    if read.include or read.exclude:
        faults.add_entry(number, "", "include and exclude are for a source that ends in /*")
        return None
    if not _resolved(source, target, folder, number, faults):
        return None
    return {
        "name": read.name,
        "source": source,
        "target": target,
        "priority": read.priority,
        "weight": read.weight,
    }


def _pattern(
    folder: Path,
    read: _Entry,
    source: dict[str, Any],
    target: dict[str, Any],
    number: int,
    faults: _Faults,
) -> DatasetPattern | None:
    name = read.name or CONTAINER
    if CONTAINER not in target["url"] or CONTAINER not in name:
        which = "target" if CONTAINER not in target["url"] else "name"
        message = f"what is found needs one each: write {CONTAINER} where its name belongs"
        faults.add_entry(number, which, message)
        return None
    source["url"] = source["url"].removesuffix("/*")
    target["url"] = target["url"].replace(CONTAINER, _STAND_IN)
    if not _resolved(source, target, folder, number, faults):
        return None
    source["url"] += "/*"
    target["url"] = target["url"].replace(_STAND_IN, CONTAINER)
    pattern = DatasetPattern(
        everywhere=source,
        target=target,
        name=name,
        include=read.include,
        exclude=read.exclude,
        priority=read.priority,
        weight=read.weight,
    )
    try:
        end = pattern.listed_end()
        if end.location.scheme is not Scheme.FILE and end.location.path:
            raise ConfigurationError("what is found are whole containers: write az://ACCOUNT/*")
    except ConfigurationError as error:
        faults.add_entry(number, "source", error.message)
        return None
    return pattern


def _resolved(
    source: dict[str, Any], target: dict[str, Any], folder: Path, number: int, faults: _Faults
) -> bool:
    """Take relative paths from the folder that the file is in; False if that is refused."""
    for role, section in (("source", source), ("target", target)):
        try:
            resolve_path(section, folder)
        except ConfigurationError as error:
            faults.add_entry(number, role, error.message)
            return False
    return True


def _safe(container: str) -> str:
    """The name of a dataset that is called like a container: `$web` becomes `_web`."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", container)
    return name if name[:1].isalnum() or name[:1] == "_" else "_" + name[1:]


def _in_url(container: str, url: str) -> str:
    return quote(container) if url.startswith("file:") else container


def made_datasets(
    shared: Mapping[str, Any],
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    faults: _Faults | None = None,
    known: Iterable[DatasetConfig] = (),
) -> list[DatasetConfig]:
    """The datasets of these entries, each with its number; none may be in another's way.

    `known` are datasets that there are already. Without `faults`, raises WrongSettings.
    """
    found = faults or _Faults(
        "the datasets", labels=[str(entry["source"]["url"]) for _, entry in entries]
    )
    made: list[_Numbered] = [(None, each) for each in known]
    names = {each.name.lower() for _, each in made}
    for number, entry in entries:
        name = str(entry["name"])
        if not NAME.fullmatch(name):
            found.add_entry(
                number, "name", "write letters, digits, dots, - and _, up to 100; no dot first"
            )
        elif name.lower() in names:
            found.add_entry(
                number, "name", f"{name} is there already, whatever the case of its letters"
            )
        names.add(name.lower())
        config = _made_config(shared, entry, number, found)
        if config is not None:
            made.append(
                (
                    number,
                    DatasetConfig(
                        name=name,
                        config=config,
                        priority=int(entry.get("priority", 0)),
                        weight=float(entry.get("weight", 1.0)),
                    ),
                )
            )
    _refuse_overlaps(made, found)
    if faults is None:
        found.raise_any()
    return [each for number, each in made if number is not None]


def _made_config(
    shared: Mapping[str, Any], entry: Mapping[str, Any], number: int, faults: _Faults
) -> JobConfig | None:
    sections = {name: section for name, section in shared.items() if name != "directory"}
    for name, settings in OF_EACH.items():
        if isinstance(sections.get(name, {}), dict):
            sections[name] = {**settings, **sections.get(name, {})}
    try:
        ends = {"source": dict(entry["source"]), "target": dict(entry["target"])}
        return with_endpoints(job_config({**sections, **ends}, faults.place(number)))
    except WrongSettings as error:
        for line in error.lines:
            # The shared sections were said once.
            if any(f": {role}" in line for role in ("source", "target")):
                faults.add(line)
    except ConfigurationError as error:
        faults.add_entry(number, "", error.message)
    return None


def _refuse_overlaps(made: Sequence[_Numbered], faults: _Faults) -> None:
    """No two datasets write below the same prefix; none reads what another reads or writes."""
    sources: dict[_Place, DatasetConfig] = {}
    for number, each in made:
        other = sources.setdefault(_place(each.config.source), each)
        if other is not each and number is not None:
            faults.add_entry(number, "source", f"{other.name} has the same source")
    apart = _apart(sorted(made, key=lambda item: _place(item[1].config.target)), faults)
    places = [_place(each.config.target) for _, each in apart]
    for number, each in made:
        source = _place(each.config.source)
        at = bisect_right(places, source)
        for _, other in apart[max(0, at - 1) : at + 1]:
            if other is each or number is None:
                continue
            if _meet(source, _place(other.config.target)):
                faults.add_entry(number, "source", f"{other.name} writes there, below or above it")


def _apart(made: Sequence[_Numbered], faults: _Faults) -> list[_Numbered]:
    """Of datasets in the order of their targets, those that are below no other's."""
    apart: list[_Numbered] = []
    for number, each in made:
        if not apart or not _meet(_place(apart[-1][1].config.target), _place(each.config.target)):
            apart.append((number, each))
            continue
        above, other = apart[-1]
        blamed = above if number is None else number
        name = each.name if number is None else other.name
        if blamed is not None:
            message = f"it is below, above or the same as the target of {name}"
            faults.add_entry(blamed, "target", message)
    return apart


def _meet(one: _Place, other: _Place) -> bool:
    """Whether one place is the other, or below it."""
    (*service, path), (*other_service, other_path) = one, other
    nested = path.startswith(other_path) or other_path.startswith(path)
    return service == other_service and nested


def _place(end: EndConfig) -> _Place:
    return (*_service(end), _path(end))


def _service(end: EndConfig) -> tuple[str, ...]:
    location = end.location
    container = "" if location.scheme is Scheme.FILE else location.container
    return (str(location.scheme), end.endpoint or "", location.account, container)


def _path(end: EndConfig) -> str:
    location = end.location
    if location.scheme is Scheme.FILE:
        return location.container.rstrip("/") + "/"
    return location.prefix
