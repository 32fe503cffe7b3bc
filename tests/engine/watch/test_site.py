"""What one driver serves: four places, read only, for this site alone."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from importlib import resources

import pytest

from noria.engine.metrics_server import MetricsServer
from noria.engine.status import JobStatus, Phase
from tests.engine.watch.a_status import a_full_status


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", name="lake")
    yield server
    server.close()


def ask(
    server: MetricsServer, path: str, method: str = "GET"
) -> tuple[http.client.HTTPResponse, str]:
    port = int(server.page.rsplit(":", 1)[1].rstrip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/status.json", "application/json"),
        ("/metrics", "text/plain"),
        ("/healthz", "text/plain; charset=utf-8"),
    ],
)
def test_it_serves(server: MetricsServer, path: str, kind: str) -> None:
    server.show(a_full_status())
    answer, body = ask(server, path)
    assert answer.status == 200
    assert answer.getheader("Content-Type", "").startswith(kind)
    assert body
    head, nothing = ask(server, path, "HEAD")
    assert (head.status, nothing) == (200, "")


@pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/healthz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_nothing_but_get_and_head_is_answered(
    server: MetricsServer, path: str, method: str
) -> None:
    answer, _ = ask(server, path, method)
    assert answer.status == 405
    assert answer.getheader("Allow") == "GET, HEAD"


@pytest.mark.parametrize("path", ["/favicon.ico", "/../etc/passwd", "/status.json/", "/Metrics"])
def test_nothing_else_is_there(server: MetricsServer, path: str) -> None:
    answer, _ = ask(server, path)
    assert answer.status == 404


def test_no_other_site_may_read_or_frame_it(server: MetricsServer) -> None:
    server.show(a_full_status())
    for path in ("/", "/status.json", "/healthz", "/nowhere"):
        answer, _ = ask(server, path)
        assert answer.getheader("Access-Control-Allow-Origin") is None
        assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.getheader("X-Content-Type-Options") == "nosniff"
        assert answer.getheader("Cache-Control") == "no-store"
        policy = answer.getheader("Content-Security-Policy") or ""
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_the_page_asks_nobody_else_for_anything() -> None:
    page = resources.files("noria.engine.watch").joinpath("page.html").read_text()
    addresses = set(re.findall(r"\w+://[^\s\"']+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=(?!\"data:,)", page)
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", page)
    assert not re.search(r"<[^>]*\s(style|on\w+)=", page), "its own policy would refuse it"


def test_before_the_first_status_it_says_that_there_is_none(server: MetricsServer) -> None:
    answer, body = ask(server, "/status.json")
    assert (answer.status, json.loads(body)["phase"]) == (503, None)
    assert ask(server, "/healthz")[0].status == 200
    assert ask(server, "/")[0].status == 200


def test_health_tells_of_a_driver_that_hangs(server: MetricsServer) -> None:
    server.show(a_full_status(updated_seconds=time.time() - 500))
    answer, body = ask(server, "/healthz")
    assert answer.status == 503
    assert "500 s old" in body


def test_the_end_waits_for_a_page_that_is_open_and_for_no_other(server: MetricsServer) -> None:
    server.show(a_full_status())
    began = time.monotonic()
    ask(server, "/healthz")
    server.close()
    assert time.monotonic() - began < 1.5, "a probe of health does not wait to see the end"
    watched = MetricsServer("127.0.0.1:0")
    watched.show(a_full_status())
    ask(watched, "/status.json")
    watched.show(JobStatus(job="a", phase=Phase.FINISHED, updated_seconds=time.time()))
    closing = threading.Thread(target=watched.close)
    closing.start()
    time.sleep(0.5)
    _, body = ask(watched, "/status.json")
    assert json.loads(body)["phase"] == "finished"
    closing.join(timeout=10)
    assert not closing.is_alive()
