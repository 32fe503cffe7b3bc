"""A worker that nobody hears ends, and nothing of what it sent comes through after that."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from noria.engine.worker_factory import EXIT_UNHEARD

CHILD = """
import socket, sys
from noria.engine.worker_factory import end_unheard
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.setblocking(False)
try:
    while True:
        sock.send(bytes(65536))
except BlockingIOError:
    pass
end_unheard()
"""


def test_what_its_system_has_not_sent_yet_ends_with_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        child = subprocess.run(
            [sys.executable, "-c", CHILD, port], capture_output=True, text=True, check=False
        )
        assert child.returncode == EXIT_UNHEARD, child.stderr
        connection, _ = listener.accept()
        with connection, pytest.raises(ConnectionResetError):
            read_to_the_end(connection)


def read_to_the_end(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass
