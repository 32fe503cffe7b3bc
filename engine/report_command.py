"""The command `noria report`: a migration, told to people who were not there."""

from __future__ import annotations

from collections.abc import Mapping
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

PDF = "evidence.pdf"


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
            help="Where the files go. Default: DIR.",
        ),
    ] = None,
    show_keys: ShowKeys = False,
    as_json: Json = False,
) -> None:
    """Write a report for people who were not there: what moved, when, how well proved.

    report.html is one file that needs nothing else, for a browser or for paper; report.json has the
    same for programs; evidence.md has what a data protection officer asks for: a record of the
    processing, flows, logging, deletion, each fact with where it comes from; evidence.pdf is the
    same on paper, if noria[pdf] is installed. They may be made at any time, while a driver is at
    work, too, and replace those made before. With --json, the document is printed, and nothing is
    written.

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
        files = _files(story, document)
        places = _write(files, output or directory)
        lines = [words.verdict(story)[1], *(f"written: {place}" for place in places)]
        if PDF not in files:
            lines.append(f"for {PDF} as well: pip install 'noria[pdf]'")
        print_lines(lines)


def _files(story: Story, document: dict[str, Any]) -> dict[str, bytes]:
    """What is to be written, by name: evidence.pdf only if what makes it is installed."""
    import json

    from noria.engine.report import evidence as about
    from noria.engine.report.page import page

    files = {
        "report.html": page(story).encode(),
        "report.json": json.dumps(document, indent=1).encode(),
        "evidence.md": about.evidence(story).encode(),
    }
    try:
        from noria.engine.report.paper import paper

        files[PDF] = paper(
            about.evidence_blocks(story),
            title=about.TITLE,
            foot=f"{about.TITLE}, job {story.job}",
            maker=f"Noria {story.noria}",
            made_seconds=story.made_seconds,
        )
    except ModuleNotFoundError as error:
        if error.name not in ("fpdf", "fontTools", "matplotlib"):
            raise
    return files


def _write(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write the files, each at once. Raises ConfigurationError if that is not possible."""
    import os

    from noria.manifests.access import make_folders
    from noria.manifests.errors import ConfigurationError

    places = [folder / name for name in files]
    try:
        make_folders(folder)
        for place, data in zip(places, files.values(), strict=True):
            scratch = place.with_name(f".{place.name}.{os.getpid()}")
            scratch.write_bytes(data)
            scratch.replace(place)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {folder} ({error.strerror}); name another place with --output"
        ) from error
    return places
