"""The server of one driver's page, status and metrics: watch/site.py says what it answers.

It listens from the start. What makes its answers takes a twentieth of a second to load, and is
loaded when somebody asks for the first time.
"""

from __future__ import annotations

import errno
import math
import re
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING

from noria.engine.config.locations import METRICS_ADDRESS
from noria.engine.watch.throughput_history import ThroughputHistory
from noria.manifests.errors import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from noria.engine.status import JobStatus

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z_.-]+):(?P<port>\d{1,5})")

UNKNOWN_INTERVAL_SECONDS = 2.0
"""Taken for the scrape interval while there was one scrape only: a short run."""
FAREWELL_SECONDS = 40.0
"""close() waits for a scraper that is due within this time of its last scrape."""
WATCHED_SECONDS = 5.0
"""A page that has not asked for so long is closed: it asks every two seconds."""
WAITING_CONNECTIONS = 16
"""How many callers may wait to be accepted."""


class LatestStatus:
    """The status that is served, and whether and how often somebody fetches it."""

    def __init__(self) -> None:
        self._status: JobStatus | None = None
        self._changed = threading.Condition()
        self._fetched = True
        """Somebody has seen the latest status."""
        self._last_seconds = float("-inf")
        self._shown_seconds = float("-inf")
        self._interval_seconds = float("inf")

    def show(self, status: JobStatus) -> None:
        with self._changed:
            self._status = status
            self._shown_seconds = time.monotonic()
            self._fetched = False

    def fetch(self) -> JobStatus | None:
        """Return the status, for a scraper that asks now. None: there is none yet."""
        now = time.monotonic()
        with self._changed:
            self._interval_seconds, self._last_seconds = now - self._last_seconds, now
            self._fetched = True
            self._changed.notify_all()
            return self._status

    def peek(self) -> JobStatus | None:
        """The same, for somebody who does not wait to see the end."""
        with self._changed:
            return self._status

    def wait_until_fetched(self, *, seen_within_seconds: float = math.inf) -> None:
        """Wait until the latest status is fetched, if a scraper is due soon.

        It is due one interval after the latest status was shown, not after its own last visit: the
        end of Ray can keep this process from answering for longer than that. One that has not come
        for `seen_within_seconds` is gone, and is not waited for.
        """
        with self._changed:
            if time.monotonic() - self._last_seconds > seen_within_seconds:
                return
            interval_seconds = self._interval_seconds
            if math.isinf(interval_seconds) and math.isfinite(self._last_seconds):
                interval_seconds = UNKNOWN_INTERVAL_SECONDS
            grace = 3.0 + interval_seconds / 4
            due = self._shown_seconds + interval_seconds + grace - time.monotonic()
            if 0 < due <= FAREWELL_SECONDS:
                self._changed.wait_for(lambda: self._fetched, timeout=due)


class MetricsServer:
    """The page, the status and the metrics of one driver, on threads of its own."""

    page: str
    """Where people watch the job; ends in a slash."""
    url: str
    """Where Prometheus finds its metrics."""

    def __init__(self, address: str = METRICS_ADDRESS, *, name: str = "") -> None:
        """Listen at HOST:PORT; port 0 takes a free one. `name` is that of the job directory.

        If the default address is taken, as by another job on this machine, a free port is used
        instead: see `url`. Raises ConfigurationError for any other address that cannot be used.
        """
        host, port = _parse(address)
        self._scraped, self._watched = LatestStatus(), LatestStatus()
        """The status as Prometheus and as readers of the page fetch it: each at its own pace."""
        self._history = ThroughputHistory()
        self._name = name
        self._server: WSGIServer | None = None
        try:
            try:
                self._listener = _listen(host, port)
            except OSError as error:
                if address != METRICS_ADDRESS or error.errno != errno.EADDRINUSE:
                    raise
                self._listener = _listen(host, 0)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics at {address}: {error.strerror or error}; give another "
                "HOST:PORT with --metrics-address, or off"
            ) from error
        self._asleep, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()
        shown = f"[{host}]" if ":" in host else host
        self.page = f"http://{shown}:{self._listener.getsockname()[1]}/"
        self.url = f"{self.page}metrics"
        self._open = True

    def show(self, status: JobStatus) -> None:
        """Serve this status from now on. Costs nothing until somebody asks.

        Show only what has been saved (engine/status.py): the next run continues from there, and a
        counter that went back would look to Prometheus as if everything had been done once more.
        """
        self._history.add(
            status.updated_seconds,
            bytes_per_second=status.bytes_per_second,
            objects_per_second=status.objects_per_second,
        )
        self._scraped.show(status)
        self._watched.show(status)

    def close(self) -> None:
        """Stop serving. A repeat does nothing.

        First waits for a scraper that is due soon (FAREWELL_SECONDS), so that it sees the end.
        """
        if not self._open:
            return
        self._open = False
        try:
            self._scraped.wait_until_fetched()
            self._watched.wait_until_fetched(seen_within_seconds=WATCHED_SECONDS)
        finally:
            self._waker.close()
            self._thread.join()
            if self._server is None:
                self._listener.close()
            else:
                self._server.server_close()

    def _serve(self) -> None:
        """Answer until the other end of `_asleep` is closed.

        Not serve_forever(), which would look twenty times a second whether it has to end.
        """
        with self._asleep, selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._asleep, selectors.EVENT_READ)
            while all(key.fileobj is self._listener for key, _ in selector.select()):
                if self._server is None:
                    from noria.engine.watch.site import WatchSite
                    from noria.engine.watch.web_server import serve_on

                    site = WatchSite(
                        look=self._watched.fetch,
                        peek=self._watched.peek,
                        scrape=self._scraped.fetch,
                        history=self._history,
                        name=self._name,
                    )
                    self._server = serve_on(self._listener, site)
                self._server.handle_request()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(WAITING_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    return listener


def _parse(address: str) -> tuple[str, int]:
    """Host and port. Raises ConfigurationError."""
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > 65535:
        raise ConfigurationError(
            f"{address} is not an address for metrics; write HOST:PORT, such as {METRICS_ADDRESS}, "
            "0.0.0.0:9464 or [::1]:9464, or off"
        )
    return found["host"].strip("[]"), int(found["port"])
