"""A host that answers everything with two bytes, and notes on which connection it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def host_that_counts() -> Iterator[tuple[str, list[int]]]:
    """The URL of a host, and the client's port of each request: one for each connection."""
    served: list[int] = []

    class PortsNoted(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.append(self.client_address[1])
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *said: object) -> None:
            """Nothing."""

    class CountingHost(ThreadingHTTPServer):
        request_queue_size = 512

    host = CountingHost(("127.0.0.1", 0), PortsNoted)
    thread = threading.Thread(target=host.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{host.server_port}", served
    finally:
        host.shutdown()
        host.socket.close()
        thread.join()
