"""An alert of a real Prometheus, over what a real server of metrics says, reaches a person."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from noria.benchmarks.servers import run_alertmanager, run_prometheus
from noria.engine.metrics_server import MetricsServer
from noria.engine.status import JobStatus, Phase
from tests.deploy.test_prometheus import PROMETHEUS

DOCUMENTS = "https://docs.example.com/noria"


@contextmanager
def person() -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """A webhook that somebody reads: its URL, and what comes in."""
    heard: queue.Queue[dict[str, Any]] = queue.Queue()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.put(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_a_reconcile_that_fails_reaches_a_person_with_the_way_out() -> None:
    metrics = MetricsServer("127.0.0.1:0")
    status = JobStatus(
        job="7f3a", phase=Phase.FINISHED, updated_seconds=time.time(), reconciled=False
    )
    metrics.show(status)
    instance = metrics.page.removeprefix("http://").rstrip("/")
    with (
        person() as (webhook, heard),
        run_alertmanager(webhook=webhook) as alertmanager,
        run_prometheus(
            targets=[instance],
            rule_files=[PROMETHEUS / "rules.yml"],
            alertmanagers=[alertmanager.address],
            labels={"noria_docs": DOCUMENTS},
        ),
    ):
        told = heard.get(timeout=60)
        (alert,) = told["alerts"]
        assert alert["status"] == "firing"
        assert alert["labels"]["alertname"] == "NoriaReconcileFailed"
        assert alert["labels"]["instance"] == instance
        assert alert["labels"]["severity"] == "page"
        url = f"{DOCUMENTS}/how-to/runbook.html#noriareconcilefailed"
        assert alert["annotations"]["runbook_url"] == url
        assert "do not agree" in alert["annotations"]["summary"]
    metrics.close()
