"""Imports at less cost: what Ray, pyarrow and pydantic import for nobody's use is left out or comes
late, a third of their CPU, and garbage is looked for less often, another tenth.

Only for processes that are Noria's alone, and before anything else is imported: the command, and
the workers of a local Ray.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib.abc import Loader

ABSENT: Final = ("numpy", "pydantic.v1.fields")
"""Optional to those who ask for them: these see them as not installed."""

LATE: Final = ("jsonschema", "requests", "yaml")
"""Not optional, and used by nothing that a job asks for: loaded when something of them is asked
for."""

SWITCHED_OFF: Final = {
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "RAY_DISABLE_CUSTOM_ARROW_JSON_OPTIONS_SERIALIZATION": "1",
}
"""Pydantic looks for plugins in all that is installed; Ray imports what it would take to send
options of JSON files."""

_LOADING: Final = RLock()
_HELD: Final = "_held"
"""Where a late module keeps its loader, and what it does not show before it is loaded."""

GARBAGE_OBJECTS: Final = 50_000
"""New objects after which Python looks for cycles, rather than 700: imports make objects that stay,
and so does most that follows."""


class LateModule(ModuleType):
    """Is loaded as soon as something of it is asked for, or one of its submodules.

    importlib's LazyLoader would load it at its second import, and Ray imports these twice.
    """

    def __getattr__(self, name: str) -> Any:
        with _LOADING:
            held = vars(self).pop(_HELD, None)
            if held is not None:
                loader, attributes = held
                vars(self).update(attributes)
                loader.exec_module(self)
                self.__class__ = ModuleType  # type: ignore[assignment]
        if type(self) is LateModule:
            raise AttributeError(f"{self.__name__} has no {name}, or not yet: it is being loaded")
        return getattr(self, name)


class LateLoader:
    """Makes a LateModule of what another loader would load.

    No subclass of importlib.abc.Loader: what that imports costs as much as is spared here.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        values = vars(module)
        # An import of a submodule asks for the path: it is not to come before its package.
        path = {name: values.pop(name) for name in ("__path__",) if name in values}
        values[_HELD] = (self._loader, path)


class LateFinder:
    """Finds the modules that LATE names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = LateLoader(spec.loader)  # type: ignore[assignment]
        return spec


def spare_imports() -> None:
    """Has no effect on what has been imported already. May be repeated."""
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    for name in ABSENT:
        # None is Python's own sign for a module that is not to be found.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for variable, value in SWITCHED_OFF.items():
        os.environ.setdefault(variable, value)
    if not any(isinstance(finder, LateFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LateFinder())
