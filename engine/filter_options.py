"""The options of the command line that stand for [filter] of a job file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

Repeated = list[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """What a job leaves out. The fields are those of FilterConfig, but for `rules_from`."""

    include: Annotated[
        Repeated,
        typer.Option(
            metavar="PATTERN", help="Take only names that match, as rclone does; repeatable."
        ),
    ] = None
    exclude: Annotated[
        Repeated, typer.Option(metavar="PATTERN", help="Leave out names that match; repeatable.")
    ] = None
    rules_from: Annotated[
        list[Path] | None,
        typer.Option(
            "--filter-from",
            metavar="FILE",
            help="Rules, one on a line: + PATTERN, - PATTERN, or !; the first match decides. "
            "- reads standard input.",
        ),
    ] = None
    min_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Leave out smaller objects: 10M = 10MiB, 10MB = 10^7."),
    ] = None
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Leave out larger objects.")
    ] = None
    min_age: Annotated[
        str | None,
        typer.Option(
            metavar="AGE", help="Leave out younger objects: 1h, 2d, 2w, 1M, 1y, or 2026-01-31."
        ),
    ] = None
    max_age: Annotated[str | None, typer.Option(metavar="AGE", help="Leave out older objects.")] = (
        None
    )
    tiers: Annotated[
        Repeated,
        typer.Option("--tier", metavar="TIER", help="Take only this tier or class; repeatable."),
    ] = None
    exclude_tiers: Annotated[
        Repeated, typer.Option("--exclude-tier", metavar="TIER", help="Leave it out; repeatable.")
    ] = None
    types: Annotated[
        Repeated,
        typer.Option(
            "--type", metavar="TYPE", help="Take only this content type, or image/*; repeatable."
        ),
    ] = None
    exclude_types: Annotated[
        Repeated, typer.Option("--exclude-type", metavar="TYPE", help="Leave it out; repeatable.")
    ] = None
    tags: Annotated[
        Repeated,
        typer.Option("--tag", metavar="KEY[=VALUE]", help="Take only this tag; repeatable."),
    ] = None
    exclude_tags: Annotated[
        Repeated,
        typer.Option("--exclude-tag", metavar="KEY[=VALUE]", help="Leave it out; repeatable."),
    ] = None

    def given(self) -> dict[str, Any]:
        """Settings of [filter] that were given. Raises ConfigurationError for a file of rules."""
        found = {name: value for name, value in asdict(self).items() if value not in (None, [])}
        if files := found.pop("rules_from", None):
            # Which commands that filter nothing need not load.
            from noria.engine.config.filters import read_rules

            found["rules"] = [rule for file in files for rule in read_rules(file)]
        return found
