"""Make the folder that a target names, and those above it that are missing.

What is there already was named by a person and may lead through links, but not through those of
another user, who may put one where anybody writes. What is missing is made one name at a time,
relative to the folder above it, and no link that comes up meanwhile is followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from noria.manifests.errors import AccessDenied, ConfigurationError, TargetFull
from noria.workers.stores.local.confined import ConfinedFolder, LinkInPath
from noria.workers.stores.local.files import mapped
from noria.workers.stores.responses import Purpose


def make_root(root: Path) -> bool:
    """Make a folder, durably. Return False if it is there.

    Raises ConfigurationError, AccessDenied, TargetFull.
    """
    missing: list[str] = []
    there = root
    while not os.path.lexists(there):
        missing.insert(0, there.name)
        there = there.parent
    if not missing:
        return False
    _refuse_links_of_others(there)
    try:
        with mapped(Purpose.CONTROL, None):
            try:
                with ConfinedFolder(there).folder(missing, make=True):
                    return True
            except LinkInPath as error:
                raise ConfigurationError(
                    "a symbolic link has just come up in its path, and none is followed: remove it"
                ) from error
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ConfigurationError(
                    f"{there} is not a folder: remove it, or correct the path"
                ) from error
    except AccessDenied as error:
        raise AccessDenied(f"this user may not make a folder in {there}: allow it") from error
    except TargetFull as error:
        raise TargetFull(f"{there} is full: make room there") from error


def _refuse_links_of_others(folder: Path) -> None:
    for place in (folder, *folder.parents):
        status = os.lstat(place)
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
            raise ConfigurationError(
                f"{place} is a symbolic link of another user, and no folder is made behind it: "
                "write the path that it leads to"
            )
