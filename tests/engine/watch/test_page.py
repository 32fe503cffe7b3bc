"""The live page, as a browser shows it and as a screen reader finds it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from noria.engine.metrics_server import MetricsServer
from noria.engine.status import HostStatus, JobStatus, Phase
from noria.engine.steering.limits import Giver
from noria.manifests.model import MetricsSnapshot
from tests.engine.watch.a_status import a_full_status, a_guarded_status, a_paused_status
from tests.support.browser import Browser, BrowserPage, chromium

SHOWN = "document.getElementById('phase')?.textContent === 'moving'"
PHASES = (*(phase.value for phase in Phase),)

STATES_SHOWN = (
    (
        a_paused_status(by="ann@mover-1", since="2026-11-28 07:20 UTC", reason="a patch"),
        "paused",
        "Paused by ann@mover-1 since 2026-11-28 07:20 UTC (a patch).",
    ),
    (
        a_paused_status(by="window office", giver=Giver.WINDOW, until="2026-11-28 18:00 UTC"),
        "paused by a window",
        "Paused by window office until 2026-11-28 18:00 UTC.",
    ),
    (
        a_guarded_status(0.22, "a small read takes 240 ms"),
        "moving, held by a guard",
        "The guard of the source leaves 22 % of the pace: a small read takes 240 ms.",
    ),
    (
        a_full_status(phase=Phase.DRAINING, drains="drained on request of ann@mover-1"),
        "draining",
        "Drained on request of ann@mover-1.",
    ),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", name="lake-to-archive")
    now = time.time()
    for second in range(120):
        server.show(a_full_status(updated_seconds=now - 120 + second, bytes_per_second=1e9))
    server.show(a_full_status())
    yield server
    server.close()


def text_of(page: BrowserPage, place: str = "body") -> str:
    return str(page.value(f"document.querySelector('{place}').innerText"))


def test_it_shows_the_job_and_asks_nobody_else(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    words = text_of(page)
    for expected in (
        *("lake-to-archive", "job e8e7bedc3d8e", "67.4 %", "278 TB", "of 412 TB"),
        *("8,370,000", "120,311 were there", "1.20 GB/s", "900 objects a second"),
        *("ends after it, as things are", "Too late by", "27 min 46 s"),
        *("1 h 33 min", "it grows from pass to pass", "31 min 40 s", "1.5 objects/s"),
        *("bandwidth: 1.25 GB/s; the job would be faster without it",),
        *("The target has not answered for 42 s", "target conflict", "decide with [run] conflicts"),
        *("throttled", "812", "Noria slows down", "node-b", "rests: its clock is 95 s late"),
    ):
        assert expected in words, expected
    assert page.value("document.title") == "67.4 % moving – lake-to-archive"
    page.wait_for("performance.getEntriesByType('resource').length >= 2")
    assert {url.removeprefix(server.page) for url in page.requests} == {"", "status.json"}
    assert page.complaints == []


def test_it_follows_the_job_by_itself(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    for phase in Phase:
        server.show(a_full_status(phase=phase))
        page.wait_for(f"document.getElementById('phase').textContent === '{phase.value}'")
    server.show(a_full_status(phase=Phase.STOPPED, stopped="stopped on request"))
    page.wait_for("document.body.innerText.includes('Stopped: stopped on request')")
    assert page.complaints == []


def test_the_top_says_what_keeps_it_from_going_on(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    assert page.value("document.getElementById('why').hidden")
    for status, badge, why in STATES_SHOWN:
        server.show(status)
        page.wait_for(f"document.getElementById('phase').textContent === {json.dumps(badge)}")
        assert text_of(page, "#why") == why
        assert badge in str(page.value("document.title"))
        assert page.value("document.getElementById('phase').className") == "badge warn"
    server.show(a_full_status())
    page.wait_for("document.getElementById('why').hidden")
    assert page.complaints == []


def test_a_part_that_says_the_same_is_left_alone(browser: Browser, server: MetricsServer) -> None:
    """A reader's place in a table is not lost every two seconds."""
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    page.value("window.row = document.querySelector('#t-errors tbody tr')")
    server.show(a_full_status(objects_done=9_000_000))
    page.wait_for("document.body.innerText.includes('9,000,000')")
    assert page.value("window.row.isConnected")


def test_it_tells_that_the_driver_is_gone(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    assert page.value("document.getElementById('gone').hidden")
    page.value("window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.wait_for("!document.getElementById('gone').hidden")
    words = text_of(page, "#gone")
    assert "The driver does not answer" in words
    assert "Last news" in words
    assert "ago" in words
    page.wait_for("/last news \\d+ s ago/.test(document.getElementById('news').textContent)")


def test_an_end_that_was_told_is_no_alarm(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    server.show(a_full_status(phase=Phase.FINISHED))
    page.wait_for("document.getElementById('phase')?.textContent === 'finished'")
    page.value("window.fetch = () => Promise.reject(new TypeError('gone'))")
    page.wait_for("failing === 'silent'")
    page.value("heardAt -= 60")
    page.value("tellAge()")
    assert page.value("document.getElementById('gone').hidden")
    assert text_of(page, "#news").startswith("finished at ")


def test_old_figures_are_told(browser: Browser, server: MetricsServer) -> None:
    server.show(a_full_status(updated_seconds=time.time() - 300))
    page = browser.open(server.page)
    page.wait_for("document.getElementById('gone')?.hidden === false")
    assert "its figures are old" in text_of(page, "#gone")
    assert "5 min" in text_of(page, "#news")


def test_a_job_of_which_little_is_known_breaks_nothing(
    browser: Browser, server: MetricsServer
) -> None:
    server.show(JobStatus(job="a", phase=Phase.STARTING, updated_seconds=time.time()))
    page = browser.open(server.page)
    page.wait_for("document.getElementById('phase')?.textContent === 'starting'")
    hidden = page.value("[...document.querySelectorAll('section[hidden]')].map((s) => s.id)")
    assert set(hidden) == {
        *("s-deadline", "s-migration", "s-limits", "s-datasets", "s-findings", "s-errors")
    }
    assert "none has begun yet" in text_of(page)
    assert page.complaints == []


def test_names_are_text_and_nothing_else(browser: Browser, server: MetricsServer) -> None:
    nasty = "<img src=x onerror=document.title='owned'>"
    host = HostStatus(workers=1, barred=nasty)
    server.show(a_full_status(hosts={nasty: host}, causes={nasty: 1}, stopped=nasty))
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    assert nasty in text_of(page, "#t-hosts")
    assert page.value("document.querySelectorAll('img').length") == 0
    assert "owned" not in page.value("document.title")
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_background(
    browser: Browser, server: MetricsServer, scheme: str
) -> None:
    """A contrast of 4.5 at least (WCAG AA), for each colour that words have."""
    page = browser.open(server.page)
    page.prefer(scheme)
    page.wait_for(SHOWN)
    names = ("text", "dim", "accent", "good", "warn", "bad")
    for back in ("back", "card"):
        for name in names:
            found = contrast(*(colour(page, each) for each in (name, back)))
            assert found >= 4.5, (scheme, name, back, found)
    brightness = luminance(colour(page, "back"))
    assert brightness > 0.5 if scheme == "light" else brightness < 0.1


def colour(page: BrowserPage, name: str) -> list[int]:
    style = "getComputedStyle(document.documentElement)"
    text = str(page.value(f"{style}.getPropertyValue('--{name}').trim()")).removeprefix("#")
    return [int(text[place : place + 2], 16) for place in (0, 2, 4)]


def luminance(colour: list[int]) -> float:
    parts = [each / 255 for each in colour]
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[int], other: list[int]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (1280, 900), (3840, 2160)])
def test_it_fits_a_phone_and_a_wall(
    browser: Browser, server: MetricsServer, width: int, height: int
) -> None:
    page = browser.open(server.page, width=width, height=height)
    page.wait_for(SHOWN)
    assert page.value("document.documentElement.scrollWidth") <= width
    size = page.value("parseFloat(getComputedStyle(document.body).fontSize)")
    assert size >= 12
    if width == 3840:
        assert size >= 24
    assert page.screenshot().startswith(b"\x89PNG")


def test_a_screen_reader_finds_its_way(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    found = page.accessibility_tree()
    roles = [role for role, _ in found]
    assert {"banner", "main", "contentinfo", "status", "progressbar", "table"} <= set(roles)
    headings = [name for role, name in found if role == "heading"]
    assert headings[:2] == ["lake-to-archive", "Progress"]
    assert ("progressbar", "Progress") in found
    images = [name for role, name in found if role == "image"]
    assert len(images) == 2
    assert images[0].startswith("Bytes a second: 1.20 GB/s now, ")
    for role, name in found:
        if role in ("table", "region", "link", "image", "columnheader", "rowheader"):
            assert name, role
    heads = [name for role, name in found if role == "columnheader"]
    assert {"Cause", "End", "What to do", "Node", "Workers", "State"} <= set(heads)
    assert {"throttled", "node-a"} <= {name for role, name in found if role == "rowheader"}
    assert page.value("document.documentElement.lang") == "en"
    unscoped = "thead th:not([scope=col]), tbody th:not([scope=row])"
    assert page.value(f"document.querySelectorAll('{unscoped}').length") == 0


def test_only_what_changes_now_and_then_is_read_aloud(
    browser: Browser, server: MetricsServer
) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    page.value(
        "window.said = []; new MutationObserver(() => said.push(element('spoken').textContent))"
        ".observe(element('spoken'), {childList: true, characterData: true, subtree: true})"
    )
    for done in (8_371_000, 8_372_000, 8_373_000):
        server.show(a_full_status(objects_done=done))
        page.wait_for(f"document.body.innerText.includes('{done:,}')")
    assert page.value("said.length") == 0
    server.show(a_full_status(bytes_done=300 * 10**12))
    page.wait_for("said.length > 0")
    assert page.value("said[0]").startswith("moving, 70 percent done")
    live = page.value("document.querySelectorAll('[aria-live]').length")
    assert live == 1


def test_it_works_without_a_mouse(browser: Browser, server: MetricsServer) -> None:
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    reached = []
    for _ in range(12):
        page.press("Tab", 9)
        reached.append(
            page.value(
                "(document.activeElement.getAttribute('aria-label') || "
                "document.activeElement.textContent).trim()"
            )
        )
    assert "The curves in figures" in reached
    assert "status.json" in reached
    assert any(name.startswith("Table of") for name in reached)
    page.value("document.querySelector('summary').focus()")
    page.send(
        "Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r",
        windowsVirtualKeyCode=13,
    )  # fmt: skip
    page.wait_for("document.querySelector('details').open")
    assert page.value("document.querySelectorAll('#t-history tbody tr').length") > 3


def test_a_long_run_and_many_hosts_are_drawn(browser: Browser, server: MetricsServer) -> None:
    now = time.time()
    status = replace(a_full_status(), metrics=MetricsSnapshot())
    for hour in range(24 * 90):
        server.show(replace(status, updated_seconds=now - (24 * 90 - hour) * 3600))
    hosts = {f"node-{number:03}": HostStatus(workers=8) for number in range(200)}
    server.show(replace(status, hosts=hosts))
    page = browser.open(server.page)
    page.wait_for(SHOWN)
    assert page.value("document.querySelectorAll('#t-hosts tbody tr').length") == 200
    assert page.value("document.querySelectorAll('#bytes path').length") >= 2
    assert page.complaints == []
