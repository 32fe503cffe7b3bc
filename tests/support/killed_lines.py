"""A process that is killed at a line of its code: what comes after does not happen, `finally` too.

for changes in itertools.count():
    if not killed_after(changes, folder, act):
        break
    ...what a killed process has left

A kill leaves what is on the disk. Lines between which nothing there changes leave the same, so one
of them stands for all: these are all states that a kill at any line can leave, each in one process.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

_KILLED = 99


def killed_after(changes: int, folder: Path, act: Callable[[], object]) -> bool:
    """Run `act` in a child that ends as soon as `folder` has changed so many times.

    That is seen at the lines of noria.manifests that it comes to, in whichever thread; with 0 it
    ends at the first one. False: it was over before.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child has none
        child = os.fork()
    if child == 0:
        _run(changes, folder, act)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, _KILLED), f"it failed after {changes} changes"
    return code == _KILLED


def _run(changes: int, folder: Path, act: Callable[[], object]) -> None:
    left = changes
    before = sorted(_states(folder))

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left, before
        if not frame.f_globals.get("__name__", "").startswith("noria.manifests"):
            return None
        if event == "line":
            now = sorted(_states(folder))
            left -= now != before
            before = now
            if left <= 0:
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


def _states(folder: Path) -> Iterator[tuple[str, int, int, int, int]]:
    """What tells whether a file or folder is as it was, at any depth."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:  # it was there when its parent was listed
        return
    for entry in entries:
        try:
            facts = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield entry.path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_nlink
        if entry.is_dir(follow_symlinks=False):
            yield from _states(Path(entry.path))
