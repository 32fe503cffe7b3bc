"""What lies at a place, in lines: for people, or a JSON document each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow.compute as pc

from noria.engine.looking import Entries
from noria.engine.terminal.figures import size_text
from noria.manifests.count_text import count_text

_SHOWN: Final = ("key", "size", "last_modified", "etag", "tier", "blob_type")
_FOLDER: Final = f"{'':19}  {'folder':>13}"


@dataclass(slots=True)
class ListedTotal:
    """How much was listed."""

    objects: int = 0
    bytes: int = 0
    folders: int = 0

    def add(self, entries: Entries) -> None:
        self.objects += len(entries.objects)
        self.bytes += pc.sum(entries.objects["size"]).as_py() or 0
        self.folders += len(entries.folders)


def printable(name: str) -> str:
    """A name on one line, with nothing in it that a terminal obeys."""
    if name.isprintable():
        return name
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in name
    )


def listing_lines(found: Iterable[Entries], *, etags: bool) -> Iterator[str]:
    """Date, size and name, with the ETag between them if it is asked for."""
    width = 0
    for entries in found:
        lines = []
        for row in _rows(entries):
            modified = row["last_modified"]
            date = "" if modified is None else f"{modified:%Y-%m-%d %H:%M:%S}"
            if etags:
                # As wide as the widest so far: a store's ETags are mostly of one length.
                width = max(width, len(row["etag"] or "-"))
            etag = f"{row['etag'] or '-':{width}}  " if etags else ""
            lines.append(f"{date:19}  {row['size']:13}  {etag}{printable(row['key'])}")
        gap = " " * (width + 2) if etags and entries.folders else ""
        lines += [f"{_FOLDER}  {gap}{printable(name)}" for name in entries.folders]
        if lines:
            yield "\n".join(lines)


def listing_documents(found: Iterable[Entries]) -> Iterator[str]:
    """One JSON document on a line for each entry; what the store does not state is left out."""
    for entries in found:
        lines = [json.dumps(_document(row)) for row in _rows(entries)]
        lines += [json.dumps({"name": name, "folder": True}) for name in entries.folders]
        if lines:
            yield "\n".join(lines)


def print_total(summary: dict[str, Any]) -> None:
    folders = summary["folders"]
    below = f", {count_text(folders, 'folder')}" if folders else ""
    print(
        f"{count_text(summary['objects'], 'object')}{below}, "
        f"{size_text(summary['bytes'])} ({count_text(summary['bytes'], 'byte')})"
    )


def _rows(entries: Entries) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = entries.objects.select(list(_SHOWN)).to_pylist()
    return rows


def _document(row: dict[str, Any]) -> dict[str, Any]:
    modified: datetime | None = row["last_modified"]
    values = {
        "name": row["key"],
        "size": row["size"],
        "modified": None if modified is None else f"{modified:%Y-%m-%dT%H:%M:%SZ}",
        "etag": row["etag"],
        "tier": row["tier"],
        "kind": row["blob_type"],
    }
    return {name: value for name, value in values.items() if value not in (None, "")}
