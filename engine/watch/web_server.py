"""Answers over HTTP, each connection on a thread of its own."""

from __future__ import annotations

import socket
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    # So that server_close() waits for answers under way: the last one is the one that counts.
    daemon_threads = False
    timeout = 0
    """A caller who has gone again is not waited for."""


class _SilentHandler(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not worth a line each."""


def serve_on(listener: socket.socket, application: WSGIApplication) -> WSGIServer:
    """A server that takes its connections from a socket that listens already."""
    host, port = listener.getsockname()[:2]
    server = _ThreadingServer((host, port), _SilentHandler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = host, port
    server.setup_environ()
    server.set_app(application)
    return server
