"""Job files and options read into `JobConfig`, and what is wrong with them said in our words."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from noria.engine.config.addresses import file_url, is_bare
from noria.engine.config.filters import FilterConfig, read_rules
from noria.engine.config.jobfile import (
    EndConfig,
    GuardConfig,
    InventoryConfig,
    JobConfig,
    PlanConfig,
    ProofConfig,
    RunConfig,
    SteeredConfig,
    SyncConfig,
)
from noria.engine.config.locations import Scheme, s3_endpoint
from noria.engine.config.quantities import SecondsOrZero
from noria.engine.config.refused_settings import (
    ERRORS_MAX,
    SettingPath,
    WrongSettings,
    nearest_name,
    setting_lines,
)
from noria.engine.steering.limits import STEERED
from noria.manifests.errors import ConfigurationError


def read_job_file(path: Path) -> JobConfig:
    """Parse and validate a job file. Raises ConfigurationError: one line that names the field."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    try:
        values = tomllib.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        # A number of too many digits is a ValueError, lists in lists in lists a RecursionError.
        what = (
            error
            if isinstance(error, tomllib.TOMLDecodeError)
            else "a value that is too large or too deeply nested"
        )
        raise ConfigurationError(f"{path} is not valid TOML: {what}") from error
    for end in ("source", "target"):
        if isinstance(values.get(end), str):
            values[end] = {"url": values[end]}
    if "datasets" in values:
        raise ConfigurationError(
            f"{path} names many datasets, which `noria plan`, `noria run`, `noria sync` and "
            "`noria status` take; name the directory of one of them here"
        )
    for section in ("source", "target", "inventory"):
        resolve_path(values.get(section), path.parent)
    resolve_shared_paths(values, path.parent)
    try:
        return job_config(values, str(path))
    except WrongSettings:
        # Where they are is looked for only now: it takes a moment.
        return job_config(values, str(path), setting_lines(text.decode("utf-8-sig")))


def resolve_shared_paths(values: Mapping[str, Any], folder: Path) -> None:
    """Take the paths of other sections than the ends' from the folder that the job file is in."""
    for section, name in (("plan", "scratch"), ("proof", "signing_key")):
        found = values.get(section)
        if isinstance(found, dict) and isinstance(found.get(name), str) and found[name]:
            found[name] = str(folder.absolute() / found[name])
    _read_rules_of(values.get("filter"), folder)


def resolve_path(section: Any, folder: Path) -> None:
    """Take a relative path in a job file from the folder that the file is in, like `directory`.

    Raises ConfigurationError for one without ./ that is in the current folder alone.
    """
    url = section.get("url") if isinstance(section, dict) else None
    if not isinstance(url, str):
        return
    is_here = is_bare(url) and not url.startswith(("/", "~"))
    if (
        url in (".", "..")
        or url.startswith(("./", "../"))
        or (is_here and os.path.lexists(folder / url))
    ):
        section["url"] = file_url(str(folder / url))
    elif is_here and os.path.lexists(url):
        raise ConfigurationError(
            f"{url} is in the current folder, and not beside the job file, from where its paths "
            f"are taken: write {os.path.abspath(url)}"
        )


def _read_rules_of(section: Any, folder: Path) -> None:
    """Take in the rules of the file that filter.rules_from names, from the job file's folder."""
    if isinstance(section, dict) and isinstance(section.get("rules_from"), str):
        rules = read_rules(folder / section.pop("rules_from"))
        if isinstance(section.setdefault("rules", []), list):
            section["rules"] += rules


def with_settings(
    config: JobConfig, given: Mapping[str, Mapping[str, Any]], where: str
) -> JobConfig:
    """The job with these settings, by section, instead of its own. Raises ConfigurationError."""
    if not any(given.values()):
        return config
    values = config.model_dump(mode="json", exclude_unset=True)
    changed = {name: {**values.get(name, {}), **section} for name, section in given.items()}
    return job_config({**values, **changed}, where)


def duration_seconds(text: str, where: str) -> float:
    """A duration as people write it. Raises ConfigurationError."""
    try:
        return TypeAdapter(SecondsOrZero).validate_python(text)
    except ValidationError as error:
        raise ConfigurationError(
            f"{where}: this is not a duration; write a number of seconds, or 90s, 5m, 1h30m, 2d"
        ) from error


def job_config(
    values: Mapping[str, Any], where: str, lines: Mapping[SettingPath, int] | None = None
) -> JobConfig:
    """Validate the values of a job. Raises WrongSettings, which never repeats a value.

    `lines` says where in the file each setting stands.
    """
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, where, lines or {}, _names_by_section()) from None


def steered_config(given: Sequence[str], where: str) -> SteeredConfig:
    """Settings from texts such as `bandwidth=2Gbit/s`. Raises WrongSettings, for all at once.

    A name may have its section in front, and that of an end a dot: `source.requests_per_second`.
    """
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongSettings([f"{where}: {name}: write it as {name}=VALUE"])
        values[steered_name(name)] = value.strip()
    try:
        return SteeredConfig.model_validate_strings(values)
    except ValidationError as error:
        raise _refusal(error, where, {}, {"": list(STEERED)}) from None


def steered_name(text: str) -> str:
    """The name of a setting as people write it, such as `run.bandwidth`."""
    return text.strip().replace("-", "_").removeprefix("run.").replace(".", "_")


def end_config(values: Mapping[str, Any], where: str) -> EndConfig:
    """Validate the values of one end. Raises WrongSettings, which never repeats a value."""
    try:
        return EndConfig.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, where, {}, {"": list(EndConfig.model_fields)}) from None


def _names_by_section() -> dict[str, list[str]]:
    sections: dict[str, type[BaseModel]] = {
        "source": EndConfig,
        "target": EndConfig,
        "inventory": InventoryConfig,
        "filter": FilterConfig,
        "plan": PlanConfig,
        "run": RunConfig,
        "sync": SyncConfig,
        "proof": ProofConfig,
    }
    windows = [*STEERED, "name", "days", "from", "to", "zone"]
    names = {section: list(model.model_fields) for section, model in sections.items()}
    of_guards = {f"{end}.guard": list(GuardConfig.model_fields) for end in ("source", "target")}
    return {"": [*JobConfig.model_fields, "windows"], **names, "windows": windows, **of_guards}


_WRITTEN: dict[tuple[str | int, ...], tuple[str | int, ...]] = {
    ("run", "windows"): ("windows",),
    ("run", "source_guard"): ("source", "guard"),
    ("run", "target_guard"): ("target", "guard"),
}
"""Where a job file has what belongs to a run."""


def _refusal(
    error: ValidationError,
    where: str,
    lines: Mapping[SettingPath, int],
    names: Mapping[str, Sequence[str]],
) -> WrongSettings:
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        path = each["loc"]
        path = _WRITTEN.get(path[:2], path[:2]) + path[2:]
        field = ".".join(map(str, path))
        message = each["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        if each["type"] == "extra_forbidden":
            section = ".".join(str(part) for part in path[:-1] if isinstance(part, str))
            message = f"no such setting{nearest_name(str(path[-1]), names, section)}"
        elif each["type"] == "missing":
            message = "it is missing"
        elif each["type"] == "tuple_type":
            message = "it should be a list: [...]"
        elif each["type"] == "string_too_short":
            message = "it is empty"
        # The line of the setting, or of the section that lacks it.
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        place = where if line is None else f"{where}, line {line}"
        found.append(
            (line or 0, f"{place}: {field}: {message}" if field else f"{place}: {message}")
        )
    refused = [text for _, text in sorted(found, key=lambda each: each[0])]
    if len(refused) > ERRORS_MAX:
        refused[ERRORS_MAX:] = [f"{where}: and {len(refused) - ERRORS_MAX:,} more"]
    return WrongSettings(refused)


def with_endpoints(config: JobConfig, environment: Mapping[str, str] = os.environ) -> JobConfig:
    """The job with the endpoints of this environment written down.

    So every node and every later run uses the same stores.
    """
    ends = {
        name: end.model_copy(update={"endpoint": s3_endpoint(end, environment)})
        for name, end in (("source", config.source), ("target", config.target))
        if end.location.scheme is Scheme.S3
    }
    return config.model_copy(update=ends)
