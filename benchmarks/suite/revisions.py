"""Revisions of Noria as commands of their own: each runs its own files, and that is proved.

    with unpacked("main~10") as tree, installed(tree) as program:
        subprocess.run([program, "copy", ...])

A revision gets an environment with the interpreter and the packages of this one, and with its own
module path in front. The installed Noria of this environment is not on it, nor is PYTHONPATH. So
what differs between two revisions is Noria's own code.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import sysconfig
import venv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.measure.spread import paired_ratios, spread_of
from noria.benchmarks.servers import ROOT
from noria.benchmarks.suite.rounds import temporary_folder

OLD, NEW = "old", "new"
CHECK_OBJECTS = 3
CHECK_SECONDS = 180.0

PROGRAM = """\
#!{python}
from {module} import main

main()
"""

PROBE = '''\
"""Write down each file that a process executes, as `PID<tab>FILE`."""

import os
import sys

noted = set()


def note(event, arguments):
    if event != "exec":
        return
    file = getattr(arguments[0], "co_filename", "")
    if os.path.isabs(file) and file not in noted:
        noted.add(file)
        with open({log!r}, "a") as log:
            log.write(f"{{os.getpid()}}\\t{{file}}\\n")


sys.addaudithook(note)
'''
PROBE_MODULE = "executed_files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a revision is imported: it has changed once."""

    module_path: str
    """Below the top folder."""
    entry: str
    """The module whose `main` is the command."""


PACKAGE = Layout(module_path="src", entry="noria.__main__")
FOUR_PACKAGES = Layout(module_path=".", entry="engine.cli")


def layout_of(tree: Path) -> Layout:
    return PACKAGE if (tree / "src" / "noria").is_dir() else FOUR_PACKAGES


@contextlib.contextmanager
def unpacked(ref: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of a revision; the repository is only read."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", ref],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if archive.returncode != 0:
        sys.exit(f"{ref} is not a revision of this repository")
    with temporary_folder() as folder:
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
        yield folder


@contextlib.contextmanager
def installed(tree: Path) -> Iterator[Path]:
    """Yield the command `noria` of the revision in `tree`, which may be a working tree.

    A small copy has run before, and its driver and its workers have executed no Noria but this
    one. Raises RuntimeError if they have.
    """
    with temporary_folder() as environment:
        program = make_environment(tree, environment)
        check_imports(program, tree)
        yield program


def make_environment(tree: Path, environment: Path) -> Path:
    """Make a virtual environment that imports Noria from `tree`; returns its command `noria`."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(environment)
    layout = layout_of(tree)
    # Of a folder that a .pth file names, Python reads no further .pth files: not the one that
    # leads to the Noria which is installed beside the packages.
    lines = [tree / layout.module_path, *_package_folders()]
    (_site_packages(environment) / "noria.pth").write_text("".join(f"{line}\n" for line in lines))
    program = environment / "bin" / "noria"
    python = environment / "bin" / "python"
    program.write_text(PROGRAM.format(python=python, module=layout.entry))
    program.chmod(0o755)
    return program


def check_imports(program: Path, tree: Path) -> None:
    """Make sure that driver and workers of `program` run the code of `tree` and of no other.

    They are watched while they copy a few files. Raises RuntimeError.
    """
    driver, files_of = _executed_files(program)
    packages = (*_package_folders(), program.parents[1], *_standard_library())
    own: dict[int, set[Path]] = {}
    foreign: set[Path] = set()
    for pid, files in files_of.items():
        ours = {file for file in files if not _is_below(file, packages)}
        own[pid] = {file for file in ours if file.is_relative_to(tree)}
        foreign |= ours - own[pid]
    if foreign:
        shown = ", ".join(str(file) for file in sorted(foreign)[:3])
        raise RuntimeError(f"instead of {tree}, Noria runs {shown}")
    workers = [
        pid
        for pid, files in own.items()
        if pid != driver and any("workers" in file.relative_to(tree).parts for file in files)
    ]
    if not own.get(driver) or not workers:
        raise RuntimeError(f"no driver, or no worker, has run the code of {tree}")


def _executed_files(program: Path) -> tuple[int, dict[int, set[Path]]]:
    """The driver's process id, and the files that each process executed in a small copy."""
    site_packages = _site_packages(program.parents[1])
    probe, start = site_packages / f"{PROBE_MODULE}.py", site_packages / f"{PROBE_MODULE}.pth"
    with temporary_folder() as folder:
        log = folder / "executed"
        log.touch()
        probe.write_text(PROBE.format(log=str(log)))
        start.write_text(f"import {PROBE_MODULE}\n")
        try:
            driver = _copy_a_few(program, folder)
        finally:
            start.unlink()
            probe.unlink()
        files: dict[int, set[Path]] = defaultdict(set)
        for line in log.read_text().splitlines():
            pid, _, file = line.partition("\t")
            files[int(pid)].add(Path(file))
    return driver, files


def _copy_a_few(program: Path, folder: Path) -> int:
    """Returns the process id of the driver. Raises RuntimeError unless all objects arrive."""
    source, target = fill_folder(folder / "source", CHECK_OBJECTS, 100), folder / "target"
    target.mkdir()
    process = subprocess.Popen(
        copy_command(program, source, target, folder / "job"),
        env=bare_environment(folder),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said, _ = process.communicate(timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        said, _ = process.communicate()
    arrived = len(list(target.iterdir()))
    if process.returncode != 0 or arrived != CHECK_OBJECTS:
        text = said.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{program} does not copy: exit code {process.returncode}: {text}")
    return process.pid


def fill_folder(folder: Path, objects: int, size: int) -> Path:
    """Make a folder of `objects` files of `size` bytes each; returns it."""
    folder.mkdir()
    for number in range(objects):
        (folder / f"{number:06}").write_bytes(bytes([number % 256]) * size)
    return folder


def copy_command(program: Path, source: Path, target: Path, job: Path) -> list[str]:
    """`noria copy` from folder to folder."""
    ends = [f"file://{source}", f"file://{target}"]
    return [str(program), "copy", *ends, *("--job", str(job)), *QUIETLY]


QUIETLY = ("--quiet", "--json", "--metrics-address", "off")
"""Two at once would fight for the port of /metrics."""


def bare_environment(home: Path) -> dict[str, str]:
    """Nothing of the developer's own; `home` is a short path, since Ray puts sockets below it."""
    shown = {"PYTHONFAULTHANDLER": "1"}  # where a process was that ends by SIGSEGV
    return {"PATH": os.defpath, "HOME": str(home), "RAY_TMPDIR": str(home), **shown}


def paired_line(title: str, old: Mapping[int, float], new: Mapping[int, float], digits: int) -> str:
    """One row of a table: both medians, and new over old in each round with its spread."""
    ratio, before, after = paired_ratios(new, old), spread_of(old.values()), spread_of(new.values())
    if ratio is None or before is None or after is None:
        return f"{title}no pair of valid runs"
    return f"{title}{before.median:10,.{digits}f}{after.median:10,.{digits}f}   {ratio.text()}"


def _package_folders() -> tuple[Path, ...]:
    """Where this interpreter finds packages, those of a parent environment included."""
    return tuple(
        Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")
    )


def _standard_library() -> tuple[Path, ...]:
    return tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})


def _site_packages(environment: Path) -> Path:
    [folder] = environment.glob("lib/python*/site-packages")
    return folder


def _is_below(file: Path, folders: tuple[Path, ...]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)
