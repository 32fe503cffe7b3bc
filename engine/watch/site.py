"""What one driver serves over HTTP: a page, its status, its metrics, its health. All read only.

    /              the live page, page.html: it asks for /status.json every two seconds
    /status.json   document.py
    /metrics       for Prometheus: engine/metrics.py
    /healthz       200 "ok", or 503 if the driver hangs: for a liveness probe

GET and HEAD are all that is answered; no answer lets another site's page read it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import TYPE_CHECKING, Final

from noria.engine.status import JobStatus
from noria.engine.watch.document import SCHEMA, document_of, stuck_seconds
from noria.engine.watch.throughput_history import ThroughputHistory

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_INLINE: Final = re.compile(rb"<(style|script)>(.*?)</\1>", re.DOTALL)
_NO_STATUS: Final = f'{{"schema": "{SCHEMA}", "phase": null}}'
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)

FetchStatus = Callable[[], JobStatus | None]


class WatchSite:
    """A WSGI application."""

    def __init__(
        self,
        *,
        look: FetchStatus,
        peek: FetchStatus,
        scrape: FetchStatus,
        history: ThroughputHistory,
        name: str = "",
    ) -> None:
        """`look` and `scrape` return the latest status, to readers of the page and to Prometheus.

        `peek` does for who does not wait to see the end. None: there is none yet. `name` is that of
        the job directory.
        """
        self._look = look
        self._peek = peek
        self._scrape = scrape
        self._history = history
        self._name = name
        self._metrics: WSGIApplication | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        routes = {
            "": self._page,
            "/": self._page,
            "/status.json": self._status,
            "/healthz": self._health,
        }
        if path not in routes and path != "/metrics":
            status, headers, body = _text(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif method not in ("GET", "HEAD"):
            status, headers, body = _text(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD alone")
            headers.append(("Allow", "GET, HEAD"))
        elif path == "/metrics":
            answer = self._load_metrics()({**environ, "REQUEST_METHOD": "GET"}, start_response)
            return answer if method == "GET" else []
        else:
            status, headers, body = routes[path]()
        known = {name for name, _ in headers}
        headers += [header for header in _HEADERS if header[0] not in known]
        headers.append(("Content-Length", str(len(body))))
        start_response(f"{status.value} {status.phrase}", headers)
        return [] if method == "HEAD" else [body]

    def _load_metrics(self) -> WSGIApplication:
        """It takes a twentieth of a second to load, and is loaded when somebody asks for it."""
        if self._metrics is None:
            from noria.engine.metrics import metrics_application

            self._metrics = metrics_application(self._scrape)
        return self._metrics

    def _page(self) -> Answer:
        body, policy = _page()
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Security-Policy", policy),
        ]
        return HTTPStatus.OK, headers, body

    def _status(self) -> Answer:
        status, kind = self._look(), [("Content-Type", "application/json")]
        if status is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, kind, _NO_STATUS.encode()
        document = document_of(status, self._history, name=self._name, served_seconds=time.time())
        return HTTPStatus.OK, kind, document.as_json().encode()

    def _health(self) -> Answer:
        status = self._peek()
        stuck = None if status is None else stuck_seconds(status, time.time())
        if stuck is None:
            return _text(HTTPStatus.OK, "ok")
        return _text(HTTPStatus.SERVICE_UNAVAILABLE, f"the figures are {stuck:.0f} s old")


Answer = tuple[HTTPStatus, list[tuple[str, str]], bytes]


def _text(status: HTTPStatus, text: str) -> Answer:
    return status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode()


@cache
def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets it run its own script and style, and nothing else."""
    page = resources.files(__package__).joinpath("page.html").read_bytes()
    hashes: dict[bytes, list[str]] = {b"style": [], b"script": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = (
        f"default-src 'none'; script-src {' '.join(hashes[b'script'])}; "
        f"style-src {' '.join(hashes[b'style'])}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy
