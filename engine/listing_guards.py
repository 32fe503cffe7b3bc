"""The guard of a source while it is listed, before any object of it is known by name."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Mapping
from functools import partial
from os import geteuid
from typing import Any, Final

from noria.engine.config.jobfile import EndConfig, RunConfig
from noria.engine.config.stores import open_end
from noria.engine.guards import Guards, GuardsOfRun, Read, make_guard
from noria.engine.live_settings import SettingsOfAll
from noria.manifests.counters import StoreRole
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from noria.workers.stores.protocol import SourceStore

ASKED_FOR: Final = ".noria-guard"
"""A name that no object is expected to have. That it is not there is an answer from the same index
that a listing reads, and it is timed."""


def listing_guards(
    source: EndConfig, run: RunConfig, of_all: SettingsOfAll | None = None
) -> GuardsOfRun:
    """The guard of the source as a job has it, for its listing. Nothing is asked yet.

    One of many has its part in the guards of all.
    """
    if of_all is not None:
        return of_all.listing_guards_for(source)
    if run.source_guard is None:
        return Guards()
    reads = itertools.repeat(listing_read(source))
    return Guards([make_guard(StoreRole.SOURCE, run.source_guard, reads)])


def listing_read(source: EndConfig) -> Read:
    """A small read of a source that is listed."""
    store = open_end(source, read_only=True)
    return partial(_look, store, source.location.prefix + ASKED_FOR)


def _look(store: SourceStore, key: str) -> None:
    store.head(key)


def refuse_foreign_commands(
    directory: JobDirectory, run: RunConfig, given: Mapping[str, Any], *, file: str = "job.json"
) -> None:
    """A command that only the job directory has is run if nobody else could have written it.

    `given`: what the job file or the command line of this run says; `file`: what says the rest.
    Raises ConfigurationError.
    """
    for name in ("source_guard", "target_guard"):
        guard = getattr(run, name)
        if guard is None or guard.command is None or name in given:
            continue
        found = directory.path(file).stat()
        if found.st_uid != geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            end = name.partition("_")[0]
            raise ConfigurationError(
                f"[{end}.guard] runs a command that {directory.root}/{file} names, and others "
                "may write that file: run the job file instead of its directory"
            )
