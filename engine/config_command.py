"""The command `noria config`: which settings hold, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cli import FORMS, Endpoint, Json, with_options
from noria.engine.filter_options import FilterOptions
from noria.engine.setting_options import SettingOptions
from noria.engine.terminal.console import exit_codes, print_lines, print_summary
from noria.manifests.errors import ConfigurationError

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.config.in_force import SettingInForce
    from noria.engine.config.jobfile import JobConfig
    from noria.engine.config.refused_settings import SettingPath

GIVEN = "command line"
VALUE_COLUMNS = 16
"""So that most lines fit 60 columns; what is longer pushes its origin to the right."""
_NAMED = ("source.url", "target.url")
"""Settings without a default."""


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command("config")(with_options(show_config))


def show_config(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB.toml|DIR|SOURCE]",
            help=f"A job file, a job directory, or a source: {FORMS}",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="Where it would go.")
    ] = None,
    source_endpoint: Endpoint = None,
    target_endpoint: Endpoint = None,
    as_json: Json = False,
    *,
    filters: FilterOptions,
    settings: SettingOptions,
) -> None:
    """Print every setting with its value, its unit, and where it comes from.

    That is "default", the line of a job file, "command line", or the name of a variable. Of an
    end, those settings are printed that a source or target of its kind takes; of credentials, only
    where they come from. Nothing is asked of any store. Without arguments: the defaults.

    \b
    Examples:
      noria config genomes.toml
      noria config az://account/container/data s3://bucket/data --part-bytes 16MiB
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.config.in_force import settings_in_force
        from noria.engine.config.reading import job_config, with_settings

        given = {**settings.given(), "filter": filters.given()}
        origins: dict[SettingPath, str]
        if what is None:
            config = job_config({"source": {"url": "/"}, "target": {"url": "/"}}, "noria config")
            origins = {}
        elif target is not None:
            ends = {
                "source": {"url": what, "endpoint": source_endpoint},
                "target": {"url": target, "endpoint": target_endpoint},
            }
            config, origins = job_config(ends, "noria config"), _paths_of(ends, GIVEN)
        elif Path(what).is_dir():
            settings.refuse(Path(what))
            config, origins = _of_directory(Path(what))
        elif what.endswith(".toml") or Path(what).is_file():
            config, origins = _of_file(Path(what))
        else:
            raise ConfigurationError(f"{what}: name a job file, a job directory, or two ends")
        config = with_settings(config, given, "noria config")
        found = list(
            settings_in_force(
                config, {**origins, **_paths_of(given, GIVEN)}, of_any_store=what is None
            )
        )
        if what is None:
            found = [each for each in found if each.name not in _NAMED]
        if as_json:
            document = {"settings": [asdict(setting) for setting in found]}
            print_summary(document, lambda _: None, as_json)
        else:
            print_lines(setting_lines_of(found))
        raise typer.Exit(0)


def setting_lines_of(found: list[SettingInForce]) -> Iterator[str]:
    """A line for each setting: name, value with unit, origin."""
    texts = [_text(setting) for setting in found]
    wide = max(len(setting.name) for setting in found)
    room = min(VALUE_COLUMNS, max(map(len, texts)))
    for setting, text in zip(found, texts, strict=True):
        yield f"{setting.name:<{wide}}  {text:<{room}}  {setting.origin}"


def _text(setting: SettingInForce) -> str:
    value = setting.value
    if setting.name.endswith(".credentials"):
        return "(not shown)"
    if value is None:
        return "auto" if setting.name.endswith((".part_bytes", ".path_style")) else "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items() if each is not None)
    if isinstance(value, list):
        return ", ".join(map(str, map(_in_words, value))) or "-"
    number = f"{value:,}" if isinstance(value, int) else f"{value:g}" if _is_float(value) else value
    return f"{number} {setting.unit}" if setting.unit else str(number)


def _in_words(value: Any) -> Any:
    """A window, by what it is called, or when it begins."""
    return value["name"] or value["begins"] if isinstance(value, dict) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, float)


def _paths_of(sections: Mapping[str, Mapping[str, Any]], origin: str) -> dict[SettingPath, str]:
    return {
        (section, name): origin
        for section, values in sections.items()
        for name, value in values.items()
        if value is not None
    }


def _of_file(path: Path) -> tuple[JobConfig, dict[SettingPath, str]]:
    from noria.engine.config.reading import read_job_file
    from noria.engine.config.refused_settings import setting_lines

    config = read_job_file(path)
    lines = setting_lines(path.read_text("utf-8"))
    return config, {setting: f"{path}:{line}" for setting, line in lines.items()}


def _of_directory(root: Path) -> tuple[JobConfig, dict[SettingPath, str]]:
    """The job as it was planned: what is not a default is in its job.json."""
    from noria.engine.planning import job_parts
    from noria.manifests.job.directory import JobDirectory

    config, _ = job_parts(JobDirectory.open(root))
    values = config.model_dump(mode="json", exclude_defaults=True)
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    return config, _paths_of(sections, f"{root}/job.json")
