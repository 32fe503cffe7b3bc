"""A headless Chromium, driven over its debugging protocol through two pipes.

    with chromium() as browser:
        page = browser.open("http://127.0.0.1:9464/", width=390, height=844)
        assert page.value("document.title") == "Noria"

Debian's package is `chromium`; without it the tests that ask for a browser are skipped.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ANSWER_SECONDS = 60.0
"""A busy machine takes its time."""
PAGE_BACKGROUND = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
]

EXEC_WITH_PIPES = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""The protocol's pipes are the descriptors 3 and 4 of the browser."""


class BrowserPage:
    """One tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.requests: list[str] = []
        """URLs that it has asked for."""
        self.complaints: list[str] = []
        """What it wrote to its console as a warning or an error, and exceptions."""

    def send(self, method: str, **parameters: Any) -> Any:
        return self._browser.send(method, parameters, self._session)

    def value(self, expression: str) -> Any:
        """What the expression comes to on the page. Raises AssertionError if it throws."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 20.0) -> None:
        """Wait until the expression is true on the page."""
        deadline = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.1)

    def prefer(self, scheme: str) -> None:
        """Show what a reader of this colour scheme is shown: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def screenshot(self, *, whole: bool = True) -> bytes:
        """PNG; of all that can be scrolled to if `whole`."""
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(found["data"])

    def accessibility_tree(self) -> list[tuple[str, str]]:
        """(role, name) of all that a screen reader finds."""
        nodes = self.send("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored") and "role" in node
        ]

    def hear(self, event: dict[str, Any]) -> None:
        parameters = event["params"]
        match event["method"]:
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
                self.complaints.append(json.dumps(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(json.dumps(parameters["entry"]))


class Browser:
    """A process of Chromium."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._unread = b""
        self._number = 0
        self._pages: dict[str, BrowserPage] = {}

    def open(self, url: str, *, width: int = 1280, height: int = 900) -> BrowserPage:
        target = self.send("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.send("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = BrowserPage(self, session["sessionId"])
        self._pages[session["sessionId"]] = page
        for domain in ("Page", "Network", "Runtime", "Log", "Accessibility"):
            page.send(f"{domain}.enable")
        page.resize(width, height)
        page.send("Page.navigate", url=url)
        return page

    def send(self, method: str, parameters: dict[str, Any], session: str | None = None) -> Any:
        """Ask the browser, and return its answer; what it tells meanwhile goes to its page."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            heard = self._read(deadline)
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, heard["error"])
                return heard["result"]
            if "method" in heard and heard.get("sessionId") in self._pages:
                self._pages[heard["sessionId"]].hear(heard)

    def _read(self, deadline: float) -> Any:
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser has ended"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own; ended with the block. Skips the test without one."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    browser_reads, to_browser = os.pipe()
    from_browser, browser_writes = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program,
            "--headless=new",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),  # as Chromium asks of root
            *PAGE_BACKGROUND,
            "about:blank",
        ]
        pipes = [str(browser_reads), str(browser_writes)]
        process = subprocess.Popen(
            [sys.executable, "-c", EXEC_WITH_PIPES, *pipes, *command],
            pass_fds=(browser_reads, browser_writes),
            env={**os.environ, "HOME": str(Path(profile))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        try:
            yield Browser(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
