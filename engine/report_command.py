"""The command `noria report`: a migration, told to people who were not there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cli import Directory, Json, ShowKeys
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    print_lines,
    print_summary,
)

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.report.document import Story

NAMES = ("report.html", "report.json", "evidence.md")


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command()(report)


def report(
    directory: Directory,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Where the three files go. Default: DIR.",
        ),
    ] = None,
    show_keys: ShowKeys = False,
    as_json: Json = False,
) -> None:
    """Write a report for people who were not there: what moved, when, how well proved.

    report.html is one file that needs nothing else, for a browser or for paper; report.json has the
    same for programs; evidence.md has what a data protection officer asks for: a record of the
    processing, flows, logging, deletion, each fact with where it comes from. They may be made at
    any time, while a driver is at work, too, and replace those made before. With --json, the
    document is printed, and nothing is written.

    \b
    Examples:
      noria report move-1
      noria report move-1 --output /srv/reports
    """
    with exit_codes(as_json, resumes=False), ending_on_signals():
        from noria.engine.report import words
        from noria.engine.report.document import tell

        story = tell(directory, show_keys=show_keys)
        document = {**asdict(story), "open_matters": dict(story.open_matters)}
        if as_json:
            print_summary(document, lambda summary: None, as_json)
            return
        places = _write(story, document, output or directory)
        print_lines([words.verdict(story)[1], *(f"written: {place}" for place in places)])


def _write(story: Story, document: dict[str, Any], folder: Path) -> list[Path]:
    """Write the files, each at once. Raises ConfigurationError if that is not possible."""
    import json
    import os

    from noria.engine.report.evidence import evidence
    from noria.engine.report.page import page
    from noria.manifests.access import make_folders
    from noria.manifests.errors import ConfigurationError

    places = [folder / name for name in NAMES]
    try:
        make_folders(folder)
        texts = (page(story), json.dumps(document, indent=1), evidence(story))
        for place, text in zip(places, texts, strict=True):
            scratch = place.with_name(f".{place.name}.{os.getpid()}")
            scratch.write_text(text, "utf-8")
            scratch.replace(place)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {folder} ({error.strerror}); name another place with --output"
        ) from error
    return places
