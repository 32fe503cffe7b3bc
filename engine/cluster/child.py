"""A Python process of Noria's own: what it may import, how it is talked to, and how it ends.

A child talks to its parent over a pair of connected sockets that nobody else can reach: no port, no
file, no token. It belongs to a session of its own, so that Ctrl-C in a terminal reaches the parent
alone. It ends with its parent: see bootstrap.py.
"""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final, NoReturn

from noria.manifests.access import open_new

PACKAGE: Final = str(Path(__file__).absolute().parents[2])
"""The folder of the package `noria`, as this process has it."""
_BOOTSTRAP: Final = str(Path(__file__).with_name("bootstrap.py"))
_LENGTH: Final = struct.Struct("!Q")
_SAID_BYTES: Final = 8192
"""How much of what a child has printed is looked at for its last words."""
GARBAGE_OBJECTS: Final = 50_000
"""New objects after which Python looks for cycles, rather than 700: most of what is made stays
(imports), or goes without its help (requests, receipts)."""
LOST_OUTPUT: Final = 120
"""Python's own exit code if what was printed could not be written."""
END_SECONDS: Final = 2.0
"""How long a killed child may take to be gone: longer only if a disk or a share hangs."""


class Channel:
    """One end of the pair: messages are pickles behind their length. For one thread each way."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: object) -> None:
        """Raises OSError if the other end is gone."""
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._end.sendall(_LENGTH.pack(len(body)) + body)

    def receive(self) -> Any:
        """The next message; waits for it. Raises EOFError or OSError if the other end is gone."""
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return pickle.loads(self._read(length))

    def hang_up(self) -> None:
        """Wake whoever waits at either end: to them the other one is gone. May be repeated."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back; nobody uses this end any more."""
        self._end.close()

    def _read(self, length: int) -> bytearray:
        body = bytearray(length)
        view = memoryview(body)
        while view:
            read = self._end.recv_into(view)
            if read == 0:
                raise EOFError("the other end is gone")
            view = view[read:]
        return body


class Child:
    """A process that runs main(channel) of a module of Noria."""

    def __init__(self, module: str, *, death_signal: signal.Signals = signal.SIGKILL) -> None:
        """Start it; returns at once.

        The kernel sends `death_signal` to it when the thread that calls this ends. Raises OSError
        if there is no room for another process.
        """
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self._said = os.memfd_create("noria-child")
        try:
            self._process = subprocess.Popen(
                [
                    *_interpreter(),
                    *(_BOOTSTRAP, PACKAGE, module, str(theirs.fileno())),
                    *(str(os.getpid()), str(int(death_signal))),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError:
            self.channel.close()
            os.close(self._said)
            raise
        finally:
            theirs.close()
        self.pid = self._process.pid

    def last_words(self) -> str:
        """How the process ended: the last line that it printed, or its exit code. It has ended."""
        try:
            code = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return "it does not answer"
        size = os.fstat(self._said).st_size
        said = os.pread(self._said, _SAID_BYTES, max(0, size - _SAID_BYTES))
        lines = said.decode(errors="replace").strip().splitlines()
        if lines and code >= 0:
            return lines[-1].strip()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """SIGKILL, whatever it does. A repeat does nothing."""
        self._process.kill()
        self.channel.hang_up()

    def wait(self, seconds: float = END_SECONDS) -> bool:
        """Whether it is gone; waits up to `seconds` for that, and gives back what it held."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.channel.close()
        if self._said >= 0:
            os.close(self._said)
            self._said = -1
        return True


def end_process(code: int) -> NoReturn:
    """End this process with an exit code: at once, if other threads are at work in it.

    They may wait for a store that is silent, so nobody waits for them. The interpreter would be
    taken apart beneath them, and the first to come back from native code would end the process by
    SIGSEGV or SIGABRT, whatever had been said of its work.
    """
    if threading.active_count() == 1:
        sys.exit(code)
    logging.shutdown()
    # A stream that was closed from the start (`>&-`) is None.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or LOST_OUTPUT
    os._exit(code)


def spare_start_up() -> None:
    """Save a fifth of the CPU of imports.

    For processes that are Noria's alone: the command, and its children. May be repeated.
    """
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    # Pydantic would look for plugins of its own in all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def open_streams() -> None:
    """See that the three standard streams are open, and that what is printed can be written.

    A stream that was closed from the start (`2>&-`) leads nowhere. Else its descriptor would be the
    next file's that is opened, of the job directory for one, and children would print into it.
    What an encoding lacks is escaped. May be repeated.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(descriptor, True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def print_to(path: Path) -> None:
    """Send all that this process prints from now on, by whatever means, to the end of a file."""
    file = open_new(str(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    os.close(file)


def _interpreter() -> list[str]:
    """This interpreter, in the same mode, but deaf to PYTHONPATH and the current folder."""
    flags = ["-P", "-E"]
    if sys.flags.no_user_site:
        flags.append("-s")
    if sys.flags.dont_write_bytecode:
        flags.append("-B")
    if sys.flags.utf8_mode:
        flags += ["-X", "utf8"]
    return [sys.executable, *flags]
