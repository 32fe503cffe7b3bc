"""Folders in which a module leaves evidence when it is imported, and then is what it hides."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import sysconfig
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.servers import ROOT
from tests.support.installed import PACKAGES, required

# Written with what the interpreter is made of alone: some of these replace what it starts with.
NOTE = """
import posix as _posix, sys as _sys
_file = _posix.open(
    f"{evidence}/{{_posix.getpid()}}.{{__name__}}", _posix.O_WRONLY | _posix.O_CREAT, 0o644
)
_posix.write(_file, ascii(_sys.orig_argv).encode())
_posix.close(_file)
"""
BECOME = """
_path = [each for each in _sys.path if each not in ("", ".", {folder!r})]
_spec = _sys.modules["_frozen_importlib_external"].PathFinder.find_spec(__name__, _path)
if _spec is not None and _spec.loader is not None:
    _real = _sys.modules["_frozen_importlib"].module_from_spec(_spec)
    _sys.modules[__name__] = _real
    _spec.loader.exec_module(_real)
"""
SETTINGS = {
    ".env": "PYTHONPATH=.\n",
    ".duckdbrc": "LOAD './trap.duckdb_extension';\n",
    "matplotlibrc": "backend: module://matplotlib_trap\n",
    "noria.pth": "import pth_trap\n",
    "noria.toml": "[run]\nworkers = 0\n",
    "openssl.cnf": "openssl_conf = trap\n",
    "pyproject.toml": "[project]\nname = 'noria'\n",
    "pyvenv.cfg": "home = .\ninclude-system-site-packages = true\n",
    "setup.cfg": "[options]\n",
}
"""Files that somebody could read from the current folder."""
NO_MODULE = (
    "__init__",
    "__main__",
    "matplotlib_trap",
    "pth_trap",
    "sitecustomize",
    "usercustomize",
)
"""Modules that Python or a setting might run, though nobody's source imports them."""


@dataclass(frozen=True, slots=True)
class Sprung:
    """A module that should not have been imported, and the process that did."""

    name: str
    pid: int
    command: tuple[str, ...]


class Traps:
    """A folder with a trap for each name, and where they leave their evidence."""

    def __init__(self, folder: Path, evidence: Path, *, without: Collection[str] = ()) -> None:
        self.folder = folder
        self.evidence = evidence
        folder.mkdir()
        evidence.mkdir()
        self._note = NOTE.format(evidence=evidence)
        self._code = self._note + BECOME.format(folder=str(folder))
        for name, text in SETTINGS.items():
            (folder / name).write_text(text)
        for name in names_to_hide() - set(without):
            (folder / f"{name}.py").write_text(self._code)
        for name in {*PACKAGES, "noria", "ray"} - set(without):
            (folder / f"{name}.py").unlink()
            (folder / name).mkdir()  # a package goes before a module
            (folder / name / "__init__.py").write_text(self._code)

    def sprung(self) -> set[Sprung]:
        """All that was imported; forgets it."""
        found = set()
        for file in self.evidence.iterdir():
            pid, _, name = file.name.partition(".")
            found.add(Sprung(name, int(pid), tuple(ast.literal_eval(file.read_text()))))
            file.unlink()
        return found


def mine(tree: Path, evidence: Path) -> None:
    """Have every module of a tree leave evidence when it is imported."""
    evidence.mkdir()
    for file in tree.rglob("*.py"):
        with file.open("a") as opened:
            opened.write(NOTE.format(evidence=evidence))


def names_to_hide() -> set[str]:
    """Names of the product's modules and folders, its dependencies' and the standard library's."""
    product = {"noria", "tests", "deploy", *PACKAGES}
    for folder in PACKAGES:
        product.update(path.stem for path in (ROOT / folder).rglob("*") if is_module(path))
    standard = {path.stem for path in Path(sysconfig.get_path("stdlib")).iterdir()}
    distributions = required(importlib.metadata.requires("noria") or [])
    owners = importlib.metadata.packages_distributions()
    foreign = {
        top
        for top, names in owners.items()
        if distributions & {name.lower().replace("_", "-") for name in names}
    }
    found = product | (standard & sys.stdlib_module_names) | foreign | set(NO_MODULE)
    return {name for name in found if name.isidentifier()}


def is_module(path: Path) -> bool:
    return path.suffix == ".py" or (path.is_dir() and path.name.isidentifier())
