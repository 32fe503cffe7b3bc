"""Ends with its parent: what the processes of a local Ray are started through.

    python -I -S tether.py PARENT COMMAND...    becomes COMMAND, which the kernel ends with PARENT
    python -I -S tether.py                      waits: stands in for an agent of Ray's raylet

The kernel watches the thread that started the process, so that thread has to live on. Popen's
preexec_fn could do the same, but forks a Python in whose other threads anything may be under way,
which may deadlock. Imports nothing of Noria: it has to be gone, or COMMAND, within milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    parent = words[0] if words else os.environ.get("RAY_RAYLET_PID")
    if parent is not None and os.getppid() != int(parent):
        sys.exit("the parent has ended already")
    if words:
        for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(ignored_by_python, signal.SIG_DFL)
        os.execv(words[1], words[1:])
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
