"""Put the sources of the site together: pages, documents of the tree, and what the code says.

    python -m docs.assemble FOLDER

Pages are written for the site. Documents that lie elsewhere in the tree are copied with their links
turned to where things lie in the site; a link to what is not in the site keeps its words alone.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from docs.reference import reference_pages

ROOT = Path(__file__).resolve().parents[1]
PAGES = "docs/pages"
DOCUMENTS = {
    "ARCHITECTURE.md": "explanation/architecture.md",
    "ATTRIBUTES.md": "reference/attributes.md",
    "CHANGELOG.md": "changelog.md",
    "CLOUDS.md": "reference/clouds.md",
    "CONTRIBUTING.md": "contributing.md",
    "DOCTOR.md": "reference/doctor.md",
    "README.md": None,
    "RELIABILITY.md": "explanation/reliability.md",
    "RIGHTS.md": "reference/rights.md",
    "benchmarks/README.md": "explanation/benchmarks.md",
    "deploy/RUNBOOK.md": "how-to/runbook.md",
}
"""Where documents of the tree lie in the site; the README is the site's own first page there."""
RESULTS = ("benchmarks/results", "explanation/results")
"""Reports of the benchmarks, and the files that they name."""
FIRST_PAGE = "index.md"

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def assemble(folder: Path) -> None:
    """Write the site's sources to `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / PAGES, folder)
    for path in sorted((ROOT / RESULTS[0]).iterdir()):
        place = folder / RESULTS[1] / path.name
        place.parent.mkdir(exist_ok=True)
        if path.suffix == ".md":
            place.write_text(turned(path.read_text(), f"{RESULTS[0]}/{path.name}"))
        else:
            shutil.copyfile(path, place)
    for document, page in DOCUMENTS.items():
        if page is not None:
            (folder / page).write_text(turned((ROOT / document).read_text(), document))
    for page, text in reference_pages().items():
        (folder / page).write_text(text)


def turned(text: str, document: str) -> str:
    """The text of a document with its links as the site needs them."""

    def link(found: re.Match[str]) -> str:
        image, words, url = found.groups()
        if re.match(r"[a-z]+:|#", url):
            return found.group()
        path, _, anchor = url.partition("#")
        named = posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
        place = place_in_site(named)
        if place is None:
            return words
        own = place_in_site(document) or FIRST_PAGE
        relative = posixpath.relpath(place, posixpath.dirname(own) or ".")
        return f"{image}[{words}]({relative}{'#' if anchor else ''}{anchor})"

    return "".join(_LINK.sub(link, line) if prose else line for prose, line in lines_of(text))


def place_in_site(path: str) -> str | None:
    """Where a file of the tree lies in the site; None if it is not there."""
    if path in DOCUMENTS:
        return DOCUMENTS[path] or FIRST_PAGE
    for here, there in ((PAGES + "/", ""), (RESULTS[0] + "/", RESULTS[1] + "/")):
        if path.startswith(here):
            return there + path.removeprefix(here)
    return None


def lines_of(text: str) -> Iterator[tuple[bool, str]]:
    """Each line, and whether it is prose rather than part of a block of code."""
    fence = ""
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if fence:
            yield False, line
            if found and found[1].startswith(fence) and not line.strip(" `~\n"):
                fence = ""
        else:
            fence = found[1] if found else ""
            yield not found, line


if __name__ == "__main__":
    assemble(Path(sys.argv[1]))
