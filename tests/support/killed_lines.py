"""A process that is killed at a line of its code: what comes after does not happen, `finally` too.

for line in itertools.count(1):
    if not killed_at(line, act):
        break
    ...what a killed process has left
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

_KILLED = 99


def killed_at(line: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that ends at the line-th line of noria.manifests that it comes to.

    In whichever thread. False: it was over before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child has none
        child = os.fork()
    if child == 0:
        _run(line, act)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _KILLED), f"it failed at line {line}"
    return code == _KILLED


def _run(line: int, act: Callable[[], object]) -> None:
    left = line

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if not frame.f_globals.get("__name__", "").startswith("noria.manifests"):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(_KILLED)
        return trace

    try:
        threading.settrace(trace)
        sys.settrace(trace)
        act()
    except BaseException:  # noqa: BLE001 - the parent is told
        sys.settrace(None)
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)
