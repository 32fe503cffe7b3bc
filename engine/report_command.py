"""The command `noria report`: a migration, told to people who were not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noria.engine.cli import Directory, Json, ShowKeys
from noria.engine.fleet_commands import holds_datasets
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

    Of many datasets, report.html and report.json tell all together, and lead to each one's own
    report, with its evidence.md, in datasets/NAME/. The exit code is 1 if one cannot be read.

    \b
    Examples:
      noria report move-1
      noria report move-1 --output /srv/reports
    """
    with exit_codes(as_json, resumes=False), ending_on_signals():
        if holds_datasets(directory):
            raise typer.Exit(_report_all(directory, output, show_keys, as_json))
        from noria.engine.report import words
        from noria.engine.report.document import tell

        story = tell(directory, show_keys=show_keys)
        if as_json:
            print_summary(_document(story), lambda summary: None, as_json)
            return
        papers = _on_paper(story)
        places = _write({**_files(story), **papers}, output or directory)
        lines = [words.verdict(story)[1], *_written(places)]
        if not papers:
            lines.append(f"for {PDF} as well: pip install 'noria[pdf]'")
        print_lines(lines)


def _report_all(directory: Path, output: Path | None, show_keys: bool, as_json: bool) -> int:
    """The same of many datasets; returns the exit code."""
    import json

    from noria.engine.report import fleet_words
    from noria.engine.report.fleet_document import UNREAD, tell_all
    from noria.engine.report.fleet_page import fleet_page

    folder, written = output or directory, list[Path]()

    def write_one(name: str, story: Story) -> None:
        if not as_json:
            written[:] = _write(_files(story), folder / "datasets" / name)

    story = tell_all(directory, show_keys=show_keys, on_story=write_one)
    document = asdict(story)
    if as_json:
        print_summary(document, lambda summary: None, as_json)
    else:
        files = {
            "report.html": fleet_page(story).encode(),
            "report.json": json.dumps(document, indent=1).encode(),
        }
        lines = [fleet_words.verdict(story)[1], *_written(_write(files, folder))]
        if written:
            names = ", ".join(place.name for place in written)
            lines.append(f"written for each dataset: {folder}/datasets/NAME/: {names}")
        print_lines(lines)
    return int(any(UNREAD in each.open_matters for each in story.datasets))


def _document(story: Story) -> dict[str, Any]:
    return {**asdict(story), "open_matters": dict(story.open_matters)}


def _written(places: Iterable[Path]) -> list[str]:
    return [f"written: {place}" for place in places]


def _files(story: Story) -> dict[str, bytes]:
    """What is to be written, by name, but for what is on paper."""
    import json

    from noria.engine.report.evidence import evidence
    from noria.engine.report.page import page

    return {
        "report.html": page(story).encode(),
        "report.json": json.dumps(_document(story), indent=1).encode(),
        "evidence.md": evidence(story).encode(),
    }


def _on_paper(story: Story) -> dict[str, bytes]:
    """evidence.pdf, if what makes it is installed."""
    from noria.engine.report.evidence import TITLE, evidence_blocks

    try:
        from noria.engine.report.paper import paper

        data = paper(
            evidence_blocks(story),
            title=TITLE,
            foot=f"{TITLE}, job {story.job}",
            maker=f"Noria {story.noria}",
            made_seconds=story.made_seconds,
        )
    except ModuleNotFoundError as error:
        if error.name not in ("fpdf", "fontTools", "matplotlib"):
            raise
        return {}
    return {PDF: data}


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
            try:
                scratch.write_bytes(data)
                scratch.replace(place)
            finally:
                scratch.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {folder} ({error.strerror}); name another place with --output"
        ) from error
    return places
