"""The settings of a job file, as the models that read it declare them.

What a setting means is the string below its field; what it takes comes from its annotation and from
the model's JSON schema.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from docs.reference.tables import table
from noria.engine.config.filters import FilterConfig
from noria.engine.config.jobfile import (
    EndConfig,
    GuardConfig,
    InventoryConfig,
    JobConfig,
    PlanConfig,
    ProofConfig,
    RunConfig,
    SyncConfig,
    WindowConfig,
)

HEAD = """# Job file

Made from the models that read it. An example to start from:
[write a job file](../how-to/job-files.md).

Sizes are written as `67108864`, `64MiB` or `1.5GiB` (`MB` and `GB` are powers of ten), durations
as `90s`, `5m`, `1h30m` or `2d`, rates as `64KiB/s`, `200MB/s` or `2Gbit/s`. What is wrong is said
all at once, with line numbers and the nearest name. A relative path is taken from the job file's
folder.

"""
SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    (
        "source",
        EndConfig,
        "The same settings as `[target]`; where one is for one end alone, it says so.",
    ),
    ("target", EndConfig, "The same settings as `[source]`, listed there."),
    ("inventory", InventoryConfig, "Where the list of source objects comes from."),
    ("filter", FilterConfig, "What is left out. Fixed once planned."),
    ("plan", PlanConfig, "Fixed once planned, but for `scratch`."),
    ("run", RunConfig, "May change from run to run; options of the command go before."),
    (
        "windows",
        WindowConfig,
        "Times of a week in which these settings precede those of `[run]`; see "
        "[windows](../how-to/steer.md#windows). May change from run to run, as guards may.",
    ),
    (
        "guard",
        GuardConfig,
        "When the job leaves room for others; `[target.guard]` is the same for the target. One of "
        "`latency_factor`, `command` and `prometheus = { url, query, above }`.",
    ),
    ("sync", SyncConfig, "Fixed once planned; options of `noria sync` go before."),
    ("proof", ProofConfig, "May change from run to run of a job file."),
)
HEADINGS = {"windows": "[[windows]]", "guard": "[source.guard]"}
KINDS = {
    "Url": "location",
    "Endpoint": "https URL",
    "AutoSize": 'size, or "auto"',
    "Size": "size",
    "BoundSize": "size; `10M` is 10 MiB here",
    "SecondsOrZero": "duration, or 0",
    "Seconds": "duration",
    "Rate": "rate, or 0",
    "Age": "duration or date",
    "Region": "text",
    "Moment": "time with its zone",
    "Printable": "text",
    "KeyName": "text",
    "Word": "word",
    "Bandwidth": "rate, or 0",
    "PerSecond": "a second, or 0",
    "Days": "days",
    "TimeOfDay": "time of day",
    "Zone": "time zone",
}
"""What the types of fields are called here; the first that the annotation names."""
_JSON_TYPES = {
    "boolean": "true or false",
    "integer": "number",
    "number": "number",
    "string": "text",
    "array": "list",
}
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSetting:
    """One field of a model."""

    name: str
    takes: str
    default: str
    meaning: str


def settings_page() -> str:
    """The text of reference/job-file.md."""
    parts = [
        "## At the top {#top}\n\n"
        + table(("setting", "takes", "if not set", "meaning"), _rows("top", JobConfig, alone=True))
    ]
    for name, model, says in SECTIONS:
        part = f"## `{HEADINGS.get(name, f'[{name}]')}` {{#{name}}}\n\n{says}\n"
        if name != "target":
            part += "\n" + table(("setting", "takes", "if not set", "meaning"), _rows(name, model))
        parts.append(part)
    return HEAD + "\n".join(parts)


def _rows(
    section: str, model: type[BaseModel], *, alone: bool = False
) -> Iterator[tuple[str, ...]]:
    """A row for each setting; `alone` leaves out those that are sections."""
    for found in settings(model):
        if not alone or not found.takes.startswith("section"):
            name = f"`{found.name}`{{#{section}-{found.name}}}"
            yield name, found.takes, found.default, found.meaning


def settings(model: type[BaseModel]) -> Iterator[JobSetting]:
    """The fields of a model, in its order."""
    annotations, meanings = declared(model)
    schema = model.model_json_schema(by_alias=False)
    for name, field in model.model_fields.items():
        takes = _takes(annotations[name], schema["properties"][name], schema.get("$defs", {}))
        yield JobSetting(
            name=field.alias or name,
            takes=takes,
            default="needed" if field.is_required() else _default(takes, field.default),
            meaning=meanings.get(name, "")
            .replace("None:", "Not set:")
            .replace("None or", "Not set or"),
        )


def declared(model: type) -> tuple[dict[str, str], dict[str, str]]:
    """The annotation of each field, and the string below it; those of its bases first."""
    base = model.__base__
    if base is not None and issubclass(base, BaseModel) and base.model_fields:
        of_base = declared(base)
        of_model = _declared_by(model)
        return of_base[0] | of_model[0], of_base[1] | of_model[1]
    return _declared_by(model)


def _declared_by(model: type) -> tuple[dict[str, str], dict[str, str]]:
    (found,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(found, ast.ClassDef)
    annotations, meanings, last = {}, {}, ""
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            annotations[last] = ast.unparse(node.annotation)
        elif last and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            meanings[last] = str(node.value.value)
    return annotations, meanings


def _takes(annotation: str, schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a setting takes, with its bounds, in words."""
    for choice in [schema, *schema.get("anyOf", [])]:
        found = definitions.get(choice.get("$ref", "").rpartition("/")[2], choice)
        if "properties" in found:
            return "section"
        if words := found.get("enum") or ([found["const"]] if "const" in found else None):
            return " or ".join(f'`"{word}"`' for word in words)
    inner = next((each for each in schema.get("anyOf", [])), schema)
    named = next(
        (says for kind, says in KINDS.items() if re.search(rf"\b{kind}\b", annotation)), ""
    )
    takes = named or _JSON_TYPES.get(inner.get("type", ""), "text")
    if takes == "number" and "minimum" in inner and "maximum" in inner:
        takes = f"{inner['minimum']:,} to {inner['maximum']:,}"
    return takes


def _default(takes: str, value: object) -> str:
    """The value of a setting that is not set, in the unit of what it takes."""
    if value is None:
        return "-"
    if isinstance(value, BaseModel) or value == ():
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum | str):
        return f'`"{value.value if isinstance(value, Enum) else value}"`'
    assert isinstance(value, int | float)
    if takes.startswith("size"):
        size, unit = next((each for each in _UNITS if value % each[0] == 0), (1, "bytes"))
        return f"{value // size:,} {unit}"
    unit = " s" if takes.startswith("duration") else " bytes/s" if takes.startswith("rate") else ""
    return f"{value:g}{unit}" if 0 < value < 1 else f"{value:,.0f}{unit}"
