"""What must not lie in the source: a listing would find it there, and move it with the rest.

A filter of names that leaves it out allows it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

import pyarrow as pa

from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.config.locations import Scheme
from noria.manifests.errors import ConfigurationError
from noria.manifests.plan.globs import path_rules

KEPT_THERE: Final = ("job.json", "pseudonyms.key", "manifest/part-00000.parquet")
"""Names in a job directory that stand for all."""
WRITTEN_THERE: Final = ("object", "folder/object")
"""Names that stand for all that may be written to a target."""

SPECIAL: Final = re.compile(r"[\\*?\[\]{},]")
"""What means something in a pattern."""
_ESCAPED: Final = r"\\\g<0>"


def refuse_job_in_source(config: JobConfig, root: Path) -> None:
    """Raise ConfigurationError if the source's listing would find the job directory at root.

    It holds a key and files that change while a job runs.
    """
    below = _below_folder(config.source, root)
    if below is not None and _listed(config, below, KEPT_THERE):
        # The name of a default one depends on the filters.
        folder = os.path.dirname(below) if root.parent.name == "noria-jobs" else below
        left_out = f", or leave it out: {_exclude(folder)}" if folder else ""
        raise ConfigurationError(
            f"the job directory {root} would lie in the source, and be moved with it: name one "
            f"elsewhere (--job, or directory in a job file){left_out}"
        )


def refuse_target_in_source(config: JobConfig) -> None:
    """Raise ConfigurationError if each pass would move again what the last one has written."""
    source, target = config.source.location, config.target.location
    if target.scheme is Scheme.FILE:
        below = _below_folder(config.source, Path(target.container))
    else:
        same = (source.scheme, source.account, source.container, config.source.endpoint) == (
            target.scheme,
            target.account,
            target.container,
            config.target.endpoint,
        )
        inside = same and target.prefix.startswith(source.prefix)
        below = target.prefix.removeprefix(source.prefix).rstrip("/") if inside else None
    if below and _listed(config, below, WRITTEN_THERE):
        raise ConfigurationError(
            "the target lies in the source, so that each pass would move again what the last one "
            f"wrote: begin another job, with a target elsewhere or with {_exclude(below)}"
        )


def _below_folder(source: EndConfig, path: Path) -> str | None:
    """The name of a path below a source that is a folder; empty for the folder itself."""
    if source.location.scheme is not Scheme.FILE:
        return None
    folder = os.path.realpath(source.location.container)
    if not os.path.isdir(folder):
        return None
    place = os.path.realpath(path)
    if os.path.commonpath((folder, place)) != folder:
        return None
    return "" if place == folder else os.path.relpath(place, folder)


def _listed(config: JobConfig, below: str, names: tuple[str, ...]) -> bool:
    """Whether a listing of the source would find one of these names there, and move it."""
    if config.inventory.kind != "listing":
        return False
    filters = config.filter
    rules = path_rules(filters.include, filters.exclude, filters.rules)
    keys = pa.array([os.path.join(below, name) for name in names], pa.string())
    return any(rules.passes(keys).to_pylist())


def _exclude(below: str) -> str:
    """The option that leaves out all below this folder."""
    return f"--exclude '/{re.sub(SPECIAL, _ESCAPED, below)}/**'"
