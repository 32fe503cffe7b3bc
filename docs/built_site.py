"""Look through the built site: every link inside leads somewhere, and nothing is fetched elsewhere.

    python -m docs.built_site FOLDER

Links to other places are listed and not followed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
}
"""What a browser fetches by itself. Of <link>, `rel` says whether it does."""
NOT_FETCHED = {"canonical", "next", "prev", "edit"}
_STYLE_URL = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class BuiltPage(HTMLParser):
    """The anchors of a page, what it links to and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        for name, value in given.items():
            if (tag, name) in FETCHED and given.get("rel") not in NOT_FETCHED:
                self.fetched.append(value)
            elif name == "href":
                self.links.append(value)


def troubles(folder: Path) -> Iterator[str]:
    """What is wrong with the site, in words."""
    pages = {path: BuiltPage(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        where = path.relative_to(folder)
        if path.name == "404.html":
            continue  # its links are those of a site that has an address
        for url in page.fetched:
            if is_elsewhere(url) and not url.startswith("data:"):
                yield f"{where}: fetches {url}"
        for url in page.links + page.fetched:
            if not is_elsewhere(url) and (wrong := _wrong_link(path, url, pages)):
                yield f"{where}: {wrong}"
    for style in sorted(folder.rglob("*.css")):
        for found in _STYLE_URL.findall(style.read_text()):
            if is_elsewhere(url := found[0] or found[1]) and not url.startswith("data:"):
                yield f"{style.relative_to(folder)}: fetches {url}"


def is_elsewhere(url: str) -> bool:
    """True if a URL leads out of the site."""
    return url.startswith("//") or bool(urlsplit(url).scheme)


def _wrong_link(path: Path, url: str, pages: dict[Path, BuiltPage]) -> str:
    parts = urlsplit(url)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return f"{url} leads nowhere"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"{url} names an anchor that is not there"
    return ""


def main(folder: Path) -> int:
    elsewhere = Counter(
        url
        for path in folder.rglob("*.html")
        for url in BuiltPage(path.read_text()).links
        if is_elsewhere(url)
    )
    print(f"{len(elsewhere):,} links to other places, not followed:")
    for url in sorted(elsewhere):
        print(f"  {url}")
    found = list(troubles(folder.resolve()))
    for trouble in found:
        print(trouble, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
