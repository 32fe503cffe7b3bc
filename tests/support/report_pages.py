"""The HTML page of a report, as a reader of it has it."""

from __future__ import annotations

from html.parser import HTMLParser

NEVER_CLOSED = {"meta", "line", "rect"}


class Checked(HTMLParser):
    """Raises if elements are not nested, one loads something or runs, or a link leads away."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "img", "iframe"), "it needs nothing else"
        assert not {name for name, _ in attrs} & {"src", "onload", "onclick"}
        if (place := dict(attrs).get("href")) is not None:
            assert tag == "a"
            assert "://" not in place
            assert not place.startswith("/")
            self.links.append(place)
        if tag not in NEVER_CLOSED or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in NEVER_CLOSED

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(text: str) -> str:
    """What a person reads of a page, on one line."""
    return " ".join(" ".join(Checked(text).text).split())


def links(text: str) -> list[str]:
    """Where a page leads to: places beside it."""
    return Checked(text).links
