"""Make a target that is missing: a folder always, a bucket or container if its user asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from noria.engine.config.jobfile import EndConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import open_end
from noria.engine.first_look import try_access
from noria.manifests.errors import AccessDenied, ConfigurationError, ContainerMissing, NoriaError
from noria.workers.stores.inspection import InspectedStore

_RIGHT: Final = {
    Scheme.S3: "s3:CreateBucket on it",
    Scheme.AZURE: "an identity with Storage Blob Data Contributor on the account, the account's "
    "key, or an account SAS with sp=c for srt=c",
}


def may_be_made(end: EndConfig) -> bool:
    """Whether make_missing() would look at this target: no other target costs a request."""
    if end.location.scheme is Scheme.FILE:
        return not Path(end.location.container).exists()
    return end.create


def make_missing(end: EndConfig, say: Callable[[str], None]) -> None:
    """Make the target of `end` unless it is there. May be repeated, by several at once.

    Raises ConfigurationError: the right is missing, or somebody else has the name. What else is
    wrong with the target is left to those who look at it afterwards.
    """
    with closing(open_end(end)) as store:
        if is_missing(store, end):
            try:
                made = store.make_container()
            except AccessDenied as error:
                right = _RIGHT.get(end.location.scheme)
                advice = f": grant {right}, or have it made" if right else ""
                raise ConfigurationError(
                    f"target {end.location} is missing, and making it was refused ({error.message})"
                    f"{advice}"
                ) from error
            except NoriaError as error:
                raise ConfigurationError(
                    f"target {end.location} could not be made: {error.message}"
                ) from error
            if made:
                say(f"made {end.location}, which was missing")
            elif end.location.scheme is not Scheme.FILE:
                _refuse_of_others(store, end)


def is_missing(store: InspectedStore, end: EndConfig) -> bool:
    """Whether the store says so. Raises ConfigurationError if it does not let us look."""
    try:
        try_access(store, end.location.prefix)
    except ContainerMissing:
        return True
    except AccessDenied as error:
        raise ConfigurationError(
            f"target {end.location} cannot be looked at, so that nothing is made; if it is not "
            f"yours, choose another name ({error.message})"
        ) from error
    except NoriaError:
        return False
    return False


def _refuse_of_others(store: InspectedStore, end: EndConfig) -> None:
    """Raise ConfigurationError if what came up meanwhile, or hid before, may not be listed."""
    try:
        store.check_access(end.location.prefix)
    except (AccessDenied, ContainerMissing) as error:
        raise ConfigurationError(
            f"target {end.location}: the name is somebody else's already; choose another one"
        ) from error
