"""Imports at less cost: what Ray and pyarrow import for nobody's use is left out, a quarter of
their CPU, and garbage is looked for less often, another tenth.

Only for processes that are Noria's alone, and before anything else is imported: the command, and
the workers of a local Ray.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Final

ABSENT: Final = ("numpy", "pydantic.v1.fields")
"""Optional to those who ask for them: these see them as not installed."""

LAZY: Final = ("jsonschema",)
"""Not optional, and used by nothing that a job asks for: loaded when an attribute is asked for."""

GARBAGE_OBJECTS: Final = 50_000
"""New objects after which Python looks for cycles, rather than 700: imports make objects that stay,
and so does most that follows."""


class LazyFinder:
    """Finds the modules that LAZY names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LAZY else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def spare_imports() -> None:
    """Has no effect on what has been imported already. May be repeated."""
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    for name in ABSENT:
        # None is Python's own sign for a module that is not to be found.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    if not any(isinstance(finder, LazyFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LazyFinder())
