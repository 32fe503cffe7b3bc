"""The options of the command line that stand for the commonest settings of a job file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from noria.manifests.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingOptions:
    """Settings that a job has from the moment that it is planned. An option precedes a job file.

    What each means stands at the field of the same name in config/jobfile.py.
    """

    part_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="What is sent at once: 16M = 16MiB. Default: by the job."
        ),
    ] = None
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For temporary files of planning. Default: TMPDIR."),
    ] = None
    storage_class: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help='Storage class or tier of what is written; "source": its own.'
        ),
    ] = None
    acl: Annotated[
        str | None, typer.Option(metavar="ACL", help="Canned access list of what is written to S3.")
    ] = None
    source_region: Annotated[
        str | None, typer.Option(metavar="REGION", help="Of an S3 source.")
    ] = None
    target_region: Annotated[
        str | None, typer.Option(metavar="REGION", help="Of an S3 target.")
    ] = None
    source_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of AWS's credentials, for the source.")
    ] = None
    target_profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of AWS's credentials, for the target.")
    ] = None

    def given(self) -> dict[str, dict[str, Any]]:
        """Settings that were given, by section."""
        scratch = None if self.scratch is None else str(self.scratch.absolute())
        sections = {
            "source": {"region": self.source_region, "profile": self.source_profile},
            "target": {
                "region": self.target_region,
                "profile": self.target_profile,
                "storage_class": self.storage_class,
                "acl": self.acl,
            },
            "plan": {"part_bytes": self.part_bytes, "scratch": scratch},
        }
        return {
            section: {name: value for name, value in settings.items() if value is not None}
            for section, settings in sections.items()
        }

    def refuse(self, directory: Path) -> None:
        """Raise ConfigurationError if any was given: the job in `directory` has its settings."""
        given = [each.name for each in fields(self) if getattr(self, each.name) is not None]
        if given:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ConfigurationError(
                f"{options}: {directory} has been planned, and keeps the settings of its plan; "
                "leave it out, or plan another job"
            )
