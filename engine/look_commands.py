"""The commands of `noria` that only look: nothing is planned, and nothing is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from noria.engine.cli import FORMS, Directory, Endpoint, Json, ShowKeys
from noria.engine.terminal.console import (
    ending_on_signals,
    exit_codes,
    print_lines,
    print_summary,
    say_unless,
)
from noria.manifests.errors import ConfigurationError

# Commands import what they need when they run: all of it takes half a second.
if TYPE_CHECKING:
    from noria.engine.checking import CheckCounts
    from noria.engine.looking import Entries, ListedPlace
    from noria.engine.terminal.comparison import Reports


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands below, after its own."""
    app.command("ls")(list_place)
    app.command("check")(check_places)
    app.command()(failures)


Anonymous = Annotated[bool, typer.Option("--anonymous", help="Read URL without credentials.")]


def list_place(
    url: Annotated[str, typer.Argument(metavar="URL", help=FORMS)],
    recursive: Annotated[
        bool, typer.Option("--recursive", "-R", help="All below URL, in no particular order.")
    ] = False,
    etags: Annotated[bool, typer.Option("--etag", "-e", help="Show ETags, too.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="Only say how many objects and bytes there are.")
    ] = False,
    endpoint: Endpoint = None,
    anonymous: Anonymous = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on a line for each entry.")
    ] = False,
) -> None:
    """List objects and folders: dates in UTC, sizes in bytes, and names.

    Names are relative to URL. If URL names one object, that is listed; with a slash at its end, URL
    is a folder. What a store lists is printed as it comes, over any number of objects. A character
    that cannot be printed is shown as an escape; --json has all names as they are.

    \b
    Examples:
      noria ls az://account/container
      noria ls s3://bucket/data/ -R --json
      noria ls s3://bucket/data/ -R --summary
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.config.reading import end_config
        from noria.engine.looking import ListedPlace
        from noria.engine.terminal import listing

        given = {"url": url, "endpoint": endpoint, "anonymous": anonymous}
        end = end_config(given, "noria ls")
        with ending_on_signals(), ListedPlace(end, "cannot list") as place:
            found = _entries(place, recursive=recursive)
            if summary:
                total = listing.ListedTotal()
                for entries in found:
                    total.add(entries)
                print_summary(asdict(total), listing.print_total, as_json)
            elif as_json:
                print_lines(listing.listing_documents(found))
            else:
                print_lines(listing.listing_lines(found, etags=etags))


def _entries(place: ListedPlace, *, recursive: bool) -> Iterator[Entries]:
    """What `noria ls` lists."""
    import pyarrow as pa

    from noria.engine.looking import Entries

    row = place.the_object()
    if row is None:
        yield from place.entries(recursive=recursive)
    else:
        name = pa.array([row["key"][0].as_py().rpartition("/")[2]])
        yield Entries(objects=row.set_column(0, row.schema.field(0), name))


# -- the options of `noria check` ------------------------------------------------------------------

Download = Annotated[
    bool, typer.Option("--download", help="Read all of both, and compare the bytes.")
]
OneWay = Annotated[bool, typer.Option("--one-way", help="Do not mind what is on B alone.")]
Combined = Annotated[
    Path | None, typer.Option(metavar="FILE", help="All names, with = * - + or ! before.")
]
Match = Annotated[Path | None, typer.Option(metavar="FILE", help="Names that match.")]
Differ = Annotated[Path | None, typer.Option(metavar="FILE", help="Names that differ.")]
MissingOnA = Annotated[
    Path | None,
    typer.Option("--missing-on-a", "--missing-on-src", metavar="FILE", help="Names on B alone."),
]
MissingOnB = Annotated[
    Path | None,
    typer.Option("--missing-on-b", "--missing-on-dst", metavar="FILE", help="Names on A alone."),
]
Failed = Annotated[
    Path | None, typer.Option("--error", metavar="FILE", help="Names that could not be compared.")
]
Transfers = Annotated[
    int, typer.Option(min=1, max=256, help="Objects that --download reads at a time.")
]
Scratch = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where listings are kept meanwhile, 100 bytes or so for each object. Default: TMPDIR.",
    ),
]


def check_places(
    first: Annotated[str, typer.Argument(metavar="A", help=FORMS)],
    second: Annotated[str, typer.Argument(metavar="B", help="Written in the same way.")],
    download: Download = False,
    one_way: OneWay = False,
    combined: Combined = None,
    match: Match = None,
    differ: Differ = None,
    missing_on_a: MissingOnA = None,
    missing_on_b: MissingOnB = None,
    error: Failed = None,
    transfers: Transfers = 8,
    scratch: Scratch = None,
    endpoint_a: Endpoint = None,
    endpoint_b: Endpoint = None,
    as_json: Json = False,
) -> None:
    """Compare two places without a job. Nothing is written to either.

    Objects are compared by name, size and, if both places state one of a kind, by checksum:
    Content-MD5 of Azure, and an ETag of S3 that is an MD5. An ETag that only looks like one (keys
    of KMS) gives a false difference; --download settles it. Folders and their markers do not count.
    FILE can be - for standard output.

    \b
    Examples:
      noria check az://account/container/data s3://bucket/data
      noria check az://account/container/data s3://bucket/data --download
      noria check /data s3://bucket/data --one-way --combined report.txt

    \b
    Exit codes:
      0  no difference
      1  differences, or objects that could not be compared
      2  wrong usage or configuration
      3  stopped before the end
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine.checking import Check, Verdict
        from noria.engine.config.reading import end_config
        from noria.engine.looking import ListedPlace
        from noria.engine.terminal import comparison

        ends = [
            end_config({"url": url, "endpoint": endpoint}, f"noria check {name}")
            for name, url, endpoint in (("A", first, endpoint_a), ("B", second, endpoint_b))
        ]
        files = {
            comparison.COMBINED: combined,
            Verdict.MATCH: match,
            Verdict.DIFFER: differ,
            Verdict.MISSING_ON_A: missing_on_a,
            Verdict.MISSING_ON_B: missing_on_b,
            Verdict.ERROR: error,
        }
        with (
            ending_on_signals(),
            comparison.Reports(files) as reports,
            ListedPlace(ends[0], "cannot list A:") as a,
            ListedPlace(ends[1], "cannot list B:") as b,
            Check(a, b, scratch) as check,
        ):
            found = check.pairs(one_way=one_way, transfers=transfers if download else 0)
            _print_check(
                comparison.difference_lines(found, reports), check.counts, reports, as_json
            )


def _print_check(
    lines: Iterator[str], counts: CheckCounts, reports: Reports, as_json: bool
) -> NoReturn:
    """Print differences as they are found, and how many there are; exit as `noria check` does."""
    from noria.engine.terminal.comparison import check_lines, check_summary

    if as_json and reports.on_standard_output:
        raise ConfigurationError("--json has standard output for itself: name a file")
    if as_json:
        deque(lines, maxlen=0)
        print_summary(check_summary(counts), lambda _: None, as_json)
    elif not print_lines(lines):
        raise typer.Exit(1 if counts.differences else 3)
    elif reports.on_standard_output:
        deque(map(say_unless(False), check_lines(counts)), maxlen=0)
    else:
        print_lines(check_lines(counts))
    raise typer.Exit(1 if counts.differences or counts.errors else 0)


def failures(
    directory: Directory,
    show_keys: ShowKeys = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV, with a line of column names.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on a line for each entry.")
    ] = False,
) -> None:
    """List all that did not land in the last run: name, outcome, cause and message.

    Nothing is printed if all landed, or if no run has ended yet. Pseudonyms are those of the job's
    reports and logs.

    \b
    Examples:
      noria failures move-1
      noria failures move-1 --csv --show-keys > failures.csv
    """
    with exit_codes(as_json, resumes=False):
        from noria.engine import job
        from noria.engine.passes import current_pass
        from noria.engine.terminal import failure_list

        if as_csv and as_json:
            raise ConfigurationError("--csv and --json: give one of them")
        found = job.read_all_failures(current_pass(directory), show_keys)
        if as_csv:
            print_lines(failure_list.failure_csv(found))
        elif as_json:
            print_lines(failure_list.failure_documents(found))
        else:
            print_lines(failure_list.failure_lines(found))
