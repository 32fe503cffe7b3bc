"""Which settings `noria bench` tries: every combination of the swept values.

They are checked before anything is moved.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from noria.benchmarks.sweep.choice import Labels, setting_text
from noria.engine import job
from noria.engine.config.jobfile import JobConfig, PlanConfig, RunConfig
from noria.engine.config.locations import provider_of
from noria.engine.config.quantities import parse_size
from noria.engine.config.reading import job_config
from noria.manifests.errors import ConfigurationError
from noria.manifests.plan.providers import known_name_rules, limits_for

NOT_SWEPT = frozenset({"metrics_address", "names"})
"""A bench serves no metrics; what to do with odd names is not a question of speed."""
SETTINGS_MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One combination of swept values, and the job that it makes."""

    labels: Labels
    config: JobConfig


def read_settings(config: JobConfig, sweeps: Sequence[str]) -> list[Setting]:
    """Every combination of the swept values.

    Raises ConfigurationError for one that no job can have.
    """
    wanted = [_read_sweep(text) for text in sweeps]
    names = [name for name, _ in wanted]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"--sweep {name} is given twice; list all values in one")
    if not wanted:
        raise ConfigurationError("name at least one setting: --sweep NAME=VALUE,VALUE,...")
    combinations = itertools.product(*(values for _, values in wanted))
    rows = list(itertools.islice(combinations, SETTINGS_MOST + 1))
    if len(rows) > SETTINGS_MOST:
        raise ConfigurationError(f"more than {SETTINGS_MOST} combinations; sweep fewer values")
    settings = [_setting(config, dict(zip(names, row, strict=True))) for row in rows]
    seen: dict[str, Labels] = {}
    for setting in settings:
        other = seen.setdefault(setting.config.model_dump_json(), setting.labels)
        if other is not setting.labels:
            both = f"{setting_text(other)} and {setting_text(setting.labels)}"
            raise ConfigurationError(f"--sweep: {both} are the same setting; give one of them")
    return settings


def _read_sweep(text: str) -> tuple[str, list[str]]:
    name, equals, values = (word.strip() for word in text.partition("="))
    known = [field for field in _sections() if field not in NOT_SWEPT]
    if name not in known:
        shown = ", ".join(known)
        raise ConfigurationError(f"--sweep {text}: no such setting; there are {shown}")
    listed = [value.strip() for value in values.split(",")]
    if not equals or not all(listed):
        raise ConfigurationError(f"--sweep {text}: write it as {name}=VALUE,VALUE,...")
    return name, listed


def _sections() -> dict[str, str]:
    """Setting -> its section of the job file."""
    return {
        **dict.fromkeys(PlanConfig.model_fields, "plan"),
        **dict.fromkeys(RunConfig.model_fields, "run"),
    }


def _setting(config: JobConfig, labels: Mapping[str, str]) -> Setting:
    where = f"--sweep: {setting_text(labels)}"
    values = config.model_dump(exclude_unset=True)
    for name, value in labels.items():
        section = values.setdefault(_sections()[name], {})
        section[name] = value
    values.setdefault("run", {})["metrics_address"] = "off"
    with_labels = job_config(values, where)
    provider = provider_of(with_labels.target)
    try:
        # What planning and running will ask.
        with_labels.plan_options(limits_for(provider), known_name_rules(provider), "")
        job.run_config_of(with_labels, None)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}") from error
    return Setting(labels=labels, config=with_labels)


def read_limit(text: str) -> int:
    """Bytes, from --limit. Raises ConfigurationError."""
    try:
        size = parse_size(text)
    except ValueError as error:
        raise ConfigurationError(f"--limit: {error}") from error
    if size < 1:
        raise ConfigurationError(f"--limit {text} moves nothing; raise it")
    return size
