"""From a pattern to datasets: which containers, buckets or folders there are now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from noria.engine.config.datasets import DatasetConfig, DatasetPattern, made_datasets
from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.first_look import ACCESS_PAUSES
from noria.manifests.count_text import count_text
from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    NoriaError,
    Retryable,
    Throttled,
)
from noria.workers.stores.inspection import InspectedStore

RIGHTS: Final = {
    Scheme.AZURE: "the right to list the account's containers: a role for the whole account, such "
    "as Storage Blob Data Reader, or a SAS of the account with ss=b, srt=s, sp=l",
    Scheme.S3: "s3:ListAllMyBuckets",
    Scheme.FILE: "the right to read the folder",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDatasets:
    """What patterns stand for now."""

    datasets: Sequence[DatasetConfig] = ()
    """Those that are not known yet."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """URL of a pattern -> containers that it passes over."""


def find_datasets(
    patterns: Iterable[DatasetPattern],
    shared: Mapping[str, Any],
    known: Sequence[DatasetConfig],
    say: Callable[[str], None],
) -> FoundDatasets:
    """Ask for the names of containers, and make a dataset of each that a pattern takes.

    A container that one of `known` has for its source is not taken again. Raises WrongSettings if
    datasets are in each other's way, ConfigurationError if the names may not be asked for.
    """
    entries: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    sources = {str(each.config.source.location) for each in known}
    for pattern in patterns:
        end, url = pattern.listed_end(), str(pattern.everywhere["url"])
        names = container_names(end)
        taken = [name for name in names if pattern.takes(name)]
        left_out[url] = left_out.get(url, 0) + len(names) - len(taken)
        say(f"{url}: {count_text(len(names), 'container')}, {len(taken):,} taken")
        for name in taken:
            entry = pattern.entry(name)
            if str(EndConfig(url=entry["source"]["url"]).location) not in sources:
                entries.append(entry)
    numbered = list(enumerate(entries))
    return FoundDatasets(datasets=made_datasets(shared, numbered, known=known), left_out=left_out)


def container_names(end: EndConfig) -> list[str]:
    """The names of all containers, in order.

    Raises ConfigurationError, which names the right that is missing; Throttled.
    """
    scheme = end.location.scheme
    with closing(open_end(end, read_only=True)) as store:
        try:
            return sorted(_tried(store))
        except AccessDenied as error:
            raise ConfigurationError(
                f"the names at {scheme}:// may not be asked for: it takes {RIGHTS[scheme]} "
                f"({error.message})"
            ) from error
        except Throttled:
            raise
        except NoriaError as error:
            raise ConfigurationError(f"{scheme}:// does not name them: {error.message}") from error


def _tried(store: InspectedStore) -> list[str]:
    """All names; what may pass is tried again, but for seconds only: a person waits."""
    for pause in ACCESS_PAUSES:
        try:
            return list(store.list_containers())
        except Retryable:
            time.sleep(pause)
    return list(store.list_containers())
