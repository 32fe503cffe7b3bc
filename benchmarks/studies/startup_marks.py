"""Runs `noria` and writes down when its phases began and ended, for startup.py.

    python startup_marks.py MARKS.json copy SOURCE TARGET ...

Functions are wrapped as their modules are imported, so that nothing is imported earlier than noria
would. A mark is [phase, begin, end, CPU seconds of this process meanwhile], by the monotonic clock,
which all processes share.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NoReturn

IMPORTS = {"ray": "import ray"}
CALLS = {
    "noria.engine.planning": {
        "_check_access": "an end answers",
        "_find_facts": "facts and probe",
        "freeze": "list and freeze",
    },
    "noria.engine.cluster.ray": {
        "Cluster.__init__": "Ray starts",
        "Cluster.close": "Ray ends",
    },
    "noria.engine.driver": {"Driver.run": "workers start and move"},
    "noria.engine.job": {"_reconcile": "reconcile"},
}
FIRST_CALLS = {"noria.engine.driver": {"Driver._hear": "a worker is there"}}

marks: list[tuple[str, float, float, float]] = []


class MarkingFinder(importlib.abc.MetaPathFinder):
    """Times the import of a module, or wraps functions in it, once it has been imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in IMPORTS and name not in CALLS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: _import(execute, module)  # type: ignore[method-assign]
        return spec


@contextmanager
def _marked(phase: str) -> Iterator[None]:
    begin, used = time.monotonic(), time.process_time()
    try:
        yield
    finally:
        marks.append((phase, begin, time.monotonic(), time.process_time() - used))


def _import(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    if module.__name__ in IMPORTS:
        with _marked(IMPORTS[module.__name__]):
            execute(module)
    else:
        execute(module)
    for path, phase in CALLS.get(module.__name__, {}).items():
        _wrap(module, path, phase, every=True)
    for path, phase in FIRST_CALLS.get(module.__name__, {}).items():
        _wrap(module, path, phase, every=False)


def _wrap(module: ModuleType, path: str, phase: str, *, every: bool) -> None:
    *holders, name = path.split(".")
    holder: Any = module
    for step in holders:
        holder = getattr(holder, step)
    function = getattr(holder, name)

    @functools.wraps(function)
    def marked(*arguments: Any, **options: Any) -> Any:
        if every:
            with _marked(phase):
                return function(*arguments, **options)
        if not any(mark[0] == phase for mark in marks):
            with _marked(phase):
                pass
        return function(*arguments, **options)

    setattr(holder, name, marked)


def main() -> None:
    path = sys.argv[1]
    sys.argv = ["noria", *sys.argv[2:]]
    sys.meta_path.insert(0, MarkingFinder())
    from noria.__main__ import main as noria

    begin, used, leave = time.monotonic(), time.process_time(), os._exit

    def leave_marks(code: int) -> NoReturn:
        marks.append(("noria", begin, time.monotonic(), time.process_time() - used))
        with open(path, "w") as file:
            json.dump(marks, file)
        leave(code)

    # Where noria leaves without an interpreter's end, and where it does not.
    os._exit = leave_marks  # type: ignore[assignment]
    try:
        noria()
    except SystemExit as ended:
        leave_marks(ended.code if isinstance(ended.code, int) else 1)


if __name__ == "__main__":
    main()
