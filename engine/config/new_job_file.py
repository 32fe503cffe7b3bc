"""A job file for a new job, as text: what was answered, and the commonest settings as comments.

What a comment says is the first sentence of the setting's own text in jobfile.py or filters.py.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from noria.engine.config.filters import FilterConfig
from noria.engine.config.jobfile import EndConfig, JobConfig, PlanConfig, RunConfig
from noria.engine.config.reading import job_config

COMMENT_COLUMNS: Final = 90
_SHOWN: Final[Mapping[str, tuple[type[BaseModel], Sequence[str]]]] = {
    "source": (EndConfig, ("endpoint", "region", "profile", "anonymous", "links")),
    "target": (EndConfig, ("endpoint", "region", "profile", "create", "storage_class", "acl")),
    "filter": (FilterConfig, ("include", "exclude", "min_size", "max_size", "max_age")),
    "plan": (PlanConfig, ("part_bytes", "names", "representable", "scratch")),
    "run": (RunConfig, ("transfers", "workers", "retry_seconds", "outage_seconds", "source_md5")),
}
"""Settings that a new file has, set or as a comment; `noria config` lists them all."""


def new_job_file(answers: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a job file with these settings, by section. Raises ConfigurationError."""
    text = "\n".join(_lines(answers)) + "\n"
    job_config(tomllib.loads(text), "this job file")
    return text


def setting_text(model: type[BaseModel], name: str) -> str:
    """The first sentence of what the source of `model` says of a setting; "" if it says nothing."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(declared, ast.ClassDef)
    for field, after in zip(declared.body, declared.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or getattr(field.target, "id", "") != name:
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            words = " ".join(str(after.value.value).split())
            first, stop, _ = words.partition(". ")
            return first + stop.strip()
    return ""


def _lines(answers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "# A job of Noria. What has a # before it is the default, or an example."
    yield "# `noria config FILE` lists every setting. Credentials belong in the environment."
    for section, (model, names) in _SHOWN.items():
        given = answers.get(section, {})
        yield from ("", f"[{section}]")
        if section in ("source", "target"):
            yield f"url = {_toml(given['url'])}"
        for name in names:
            yield from _setting(model, name, given.get(name))


def _setting(model: type[BaseModel], name: str, given: Any) -> Iterator[str]:
    said = setting_text(model, name).replace("None:", "Not set:")
    yield from textwrap.wrap(
        said, COMMENT_COLUMNS, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )
    if given not in (None, [], False):
        yield f"{name} = {_toml(given)}"
    else:
        default = model.model_fields[name].get_default()
        yield f"# {name} = {'...' if default is None else _toml(default)}"


def _toml(value: Any) -> str:
    """A value as TOML has it: JSON's texts, numbers and lists are TOML's."""
    return json.dumps(value, ensure_ascii=False)


def credentials_advice(config: JobConfig) -> Iterator[str]:
    """Which variables open the ends of a job, a line for each store that needs some."""
    schemes = {str(end.location.scheme) for end in (config.source, config.target)}
    if "az" in schemes:
        yield (
            "Azure: `az login`, or set AZURE_STORAGE_KEY with AZURE_STORAGE_ACCOUNT, "
            "AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING"
        )
    if "s3" in schemes:
        yield "S3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
