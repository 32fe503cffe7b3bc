"""Noria as a user has it: the wheel, in an environment of its own that holds what it declares."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from noria.benchmarks.servers import ROOT

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src")
"""What a build reads, beside the folders that links in `src` lead to."""
PACKAGES = ("benchmarks", "engine", "manifests", "workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An interpreter that has Noria, and the command that came with it."""

    python: Path
    command: Path

    @property
    def site_packages(self) -> Path:
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        return self.python.parents[1] / "lib" / version / "site-packages"


def editable() -> Installation:
    """That of this repository: `make setup` installs it so."""
    python = Path(sys.executable)
    return Installation(python=python, command=python.with_name("noria"))


def copy_tree(folder: Path) -> Path:
    """What a build needs of this repository, in a new folder; links stay links."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "results", "build")
    for name in (*SOURCES, *PACKAGES):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


def build(tree: Path, kind: Literal["wheel", "sdist"], folder: Path) -> Path:
    """A distribution of the tree, made by the backend that pyproject.toml names, offline."""
    folder.mkdir(exist_ok=True)
    program = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    run([sys.executable, "-c", program], tree)
    (made,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def install(wheel: Path, folder: Path) -> Installation:
    """A new environment: the wheel as pip installs it, and links to what it depends on."""
    venv.create(folder, symlinks=True, with_pip=False)
    here = Installation(python=folder / "bin" / "python", command=folder / "bin" / "noria")
    pip = [sys.executable, "-m", "pip", "--isolated", "--python", str(here.python), "install"]
    run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], folder)
    (metadata,) = importlib.metadata.distributions(name="noria", path=[str(here.site_packages)])
    for name in required(metadata.requires or []):
        _link(importlib.metadata.distribution(name), here.site_packages)
    return here


def required(requirements: list[str]) -> set[str]:
    """Names of all distributions that these need, and those need, on this machine."""
    found: set[tuple[str, str]] = set()
    look = [(line, "") for line in requirements]
    while look:
        line, extra = look.pop()
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                needs = importlib.metadata.distribution(name).requires or []
                look += [(need, wanted) for need in needs]
    return {name for name, _ in found}


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that succeeds. It inherits nothing that is meant for Python."""
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _link(distribution: importlib.metadata.Distribution, site_packages: Path) -> None:
    """Links for a distribution: one for a folder that is its alone, else for what lies in it."""
    files = [Path(str(file)) for file in distribution.files or []]
    packages = {file.parent for file in files if file.name in ("__init__.py", "METADATA")}
    for file in files:
        if ".." in file.parts or "__pycache__" in file.parts[:1]:
            continue  # commands, and what Python has compiled
        owned = (parent for parent in reversed(file.parents) if parent in packages)
        entry = next(owned, file)
        link = site_packages / entry
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(str(distribution.locate_file(entry))))
