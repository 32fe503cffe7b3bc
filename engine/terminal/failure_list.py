"""All failures of a job, a line each: for people, as CSV, or as JSON documents."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, fields

from noria.engine.failures import Failure
from noria.engine.terminal.listing import printable


def failure_lines(failures: Iterable[Failure]) -> Iterator[str]:
    for failure in failures:
        yield "  ".join(printable(text) for text in astuple(failure) if text)


def failure_documents(failures: Iterable[Failure]) -> Iterator[str]:
    for failure in failures:
        yield json.dumps(asdict(failure))


def failure_csv(failures: Iterable[Failure]) -> Iterator[str]:
    """As RFC 4180 has it, but for its line breaks; the first line names the columns."""
    yield ",".join(field.name for field in fields(Failure))
    for failure in failures:
        row = io.StringIO()
        csv.writer(row, lineterminator="").writerow(astuple(failure))
        yield row.getvalue()
