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

_LOADING: Final = RLock()

GARBAGE_OBJECTS: Final = 50_000
"""New objects after which Python looks for cycles, rather than 700: imports make objects that stay,
and so does most that follows."""


class LateModule(ModuleType):
    """Is loaded as soon as something of it is asked for, or one of its submodules.

    importlib's LazyLoader would load it at its second import, and Ray imports these twice.
    """

    def __getattr__(self, name: str) -> Any:
        with _LOADING:
            late: Any = self.__spec__ and self.__spec__.loader
            if isinstance(late, LateLoader):
                late.load(self)
        if type(self) is LateModule:
            raise AttributeError(f"{self.__name__} has no {name}, or not yet: it is being loaded")
        return getattr(self, name)


class LateLoader:
    """Makes a LateModule of what another loader would load.

    No subclass of importlib.abc.Loader: what that imports costs as much as is spared here.
    """

    def __init__(self, spec: ModuleSpec, loader: Loader) -> None:
        self._spec, self._loader = spec, loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = LateModule
        # An import of a submodule asks for the path: it is not to come before its package.
        vars(module).pop("__path__", None)

    def load(self, module: ModuleType) -> None:
        """What exec_module put off. The spec tells that it has begun: its loader is the other one
        from then on."""
        self._spec.loader = module.__loader__ = self._loader
        if self._spec.submodule_search_locations is not None:
            module.__path__ = self._spec.submodule_search_locations
        self._loader.exec_module(module)
        module.__class__ = ModuleType


class LateFinder:
    """Finds the modules that LATE names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in LATE else None
        if spec is not None and spec.loader is not None:
            spec.loader = LateLoader(spec, spec.loader)  # type: ignore[assignment]
        return spec


def spare_imports() -> None:
    """Has no effect on what has been imported already. May be repeated."""
    gc.set_threshold(GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    for name in ABSENT:
        # None is Python's own sign for a module that is not to be found.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    # Pydantic would look for plugins in all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if not any(isinstance(finder, LateFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LateFinder())
