"""Whose modules a process of Noria imports: the interpreter's and the installed ones, no others.

Each test starts Noria from a folder that has a module of every name that it, Ray, its dependencies
or the standard library import. `noria` and `python -m noria` import none of them. A script in such
a folder does, since Python puts it first; the processes that Noria starts still do not.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT
from tests.support.installed import Installation, editable
from tests.support.traps import Sprung, Traps, mine

pytestmark = pytest.mark.slow
"""The wheel is built and installed first."""
OLD_LAYOUT = "586b44f"
"""A revision whose `engine`, `workers` and `manifests` were names of their own."""
OBJECTS = 20
SECONDS = 60.0

SCRIPT = """
import sys
from pathlib import Path

import noria


def move(source, target, job, ray):
    settings = {{"source": {{"url": source}}, "target": {{"url": target}}, "run": {{"workers": 2}}}}
    noria.plan(noria.job_config(settings, "a script"), Path(job))
    sys.exit(noria.run(Path(job), ray=ray == "ray").exit_code)


{guard}move(*sys.argv[1:])
"""
GUARDED = SCRIPT.format(guard='if __name__ == "__main__":\n    ')
UNGUARDED = SCRIPT.format(guard="")


@dataclass(frozen=True, slots=True)
class TrappedMove:
    """A small job from folder to folder, and the process that drives it."""

    root: Path

    def run(
        self, command: list[str], folder: Path, environment: Mapping[str, str | Path]
    ) -> tuple[int, str]:
        """Process id of the driver, and what it printed. All objects have arrived."""
        inherited = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
        driver = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **{name: str(value) for name, value in environment.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            said, _ = driver.communicate(timeout=SECONDS)
        finally:
            driver.kill()
            driver.wait()
        assert driver.returncode == 0, said
        objects = {str(number): str(number).encode() for number in range(OBJECTS)}
        arrived = {path.name: path.read_bytes() for path in (self.root / "target").iterdir()}
        assert arrived == objects
        return driver.pid, said

    def command(self, *options: str) -> list[str]:
        """Arguments of `noria` that do it."""
        common = ["--workers", "2", "--metrics-address", "off", "--quiet"]
        return ["copy", *self.ends(), "--job", str(self.root / "job"), *common, *options]

    def ends(self) -> list[str]:
        return [(self.root / name).as_uri() for name in ("source", "target")]


@pytest.fixture
def move(tmp_path: Path) -> TrappedMove:
    root = tmp_path / "move"
    for name in ("source", "target"):
        (root / name).mkdir(parents=True)
    for number in range(OBJECTS):
        (root / "source" / str(number)).write_bytes(str(number).encode())
    return TrappedMove(root)


@pytest.fixture(params=["wheel", "editable"])
def noria(request: pytest.FixtureRequest) -> Installation:
    if request.param == "editable":
        return editable()
    installed: Installation = request.getfixturevalue("installed")
    return installed


def environment(traps: Traps) -> dict[str, str | Path]:
    """What could name code to run, and is not meant for a process of Noria's."""
    return {
        "OPENSSL_CONF": "openssl.cnf",
        "PYTHONSTARTUP": traps.folder / "noria.py",
        "PYTHONUSERBASE": traps.folder,
    }


def starts(noria: Installation, how: str) -> list[str]:
    return [str(noria.command)] if how == "noria" else [str(noria.python), "-m", "noria"]


def others(sprung: set[Sprung], driver: int) -> set[Sprung]:
    return {each for each in sprung if each.pid != driver}


def loaded_by_python(noria: Installation, traps: Traps) -> set[str]:
    """Names that `python -m` itself finds in the current folder, before a module of ours runs."""
    (traps.folder / "nothing_at_all.py").touch()
    command = [str(noria.python), "-m", "nothing_at_all"]
    subprocess.run(command, cwd=traps.folder, env=environment(traps), check=True, timeout=SECONDS)
    return {each.name for each in traps.sprung()}


def test_traps_spring(noria: Installation, tmp_path: Path) -> None:
    traps = Traps(tmp_path / "traps", tmp_path / "evidence")
    for name in ("noria", "json", "transfer", "pyarrow", "numpy_is_no_trap"):
        command = [str(noria.python), "-c", f"import {name}"]
        subprocess.run(command, cwd=traps.folder, stderr=subprocess.DEVNULL, timeout=SECONDS)
        assert (name in {each.name for each in traps.sprung()}) == (name != "numpy_is_no_trap")


def test_the_command_imports_nothing_from_the_current_folder(
    noria: Installation, move: TrappedMove, tmp_path: Path
) -> None:
    traps = Traps(tmp_path / "traps", tmp_path / "evidence")
    move.run([str(noria.command), *move.command()], traps.folder, environment(traps))
    assert traps.sprung() == set()


def test_python_m_noria_imports_nothing_from_the_current_folder(
    noria: Installation, move: TrappedMove, tmp_path: Path
) -> None:
    traps = Traps(tmp_path / "traps", tmp_path / "evidence", without={"noria"})
    known = loaded_by_python(noria, traps)
    command = [str(noria.python), "-m", "noria", *move.command()]
    driver, _ = move.run(command, traps.folder, environment(traps))
    sprung = traps.sprung()
    assert {each.name for each in sprung} <= known
    assert others(sprung, driver) == set()


@pytest.mark.parametrize("script", [GUARDED, UNGUARDED], ids=["guarded", "unguarded"])
def test_workers_import_nothing_from_the_folder_of_a_script(
    noria: Installation, move: TrappedMove, tmp_path: Path, script: str
) -> None:
    traps = Traps(tmp_path / "traps", tmp_path / "evidence")
    (traps.folder / "a_script_of_mine.py").write_text(script)
    command = [str(noria.python), "a_script_of_mine.py", *move.ends(), str(move.root / "job")]
    driver, _ = move.run([*command, "local"], traps.folder, environment(traps))
    sprung = traps.sprung()
    assert "noria" in {each.name for each in sprung}, "Python puts a script's folder first"
    assert others(sprung, driver) == set()


@pytest.mark.parametrize("path", ["{folder}", ".", os.pathsep], ids=["folder", "dot", "empty"])
def test_workers_import_nothing_that_pythonpath_names(
    installed: Installation, move: TrappedMove, tmp_path: Path, path: str
) -> None:
    traps = Traps(tmp_path / "traps", tmp_path / "evidence")
    settings = environment(traps) | {"PYTHONPATH": path.format(folder=traps.folder)}
    driver, _ = move.run([str(installed.command), *move.command()], traps.folder, settings)
    assert others(traps.sprung(), driver) == set()


def test_what_workers_take_from_a_folder_is_asked_for_by_name(
    installed: Installation, move: TrappedMove, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", symlinks=True, with_pip=False)
    command = [str(tmp_path / "bare" / "bin" / "python"), "-m", "noria", *move.command()]
    asked = {"PYTHONPATH": str(installed.site_packages)}
    refused = subprocess.run(
        command, cwd=tmp_path, env=asked, capture_output=True, text=True, timeout=SECONDS
    )
    assert refused.returncode == 3, refused.stderr
    assert (
        "3 workers in a row died while they started: ModuleNotFoundError: No module named"
        in refused.stdout
    )
    assert "PYTHONPATH does not count here, name its folder in NORIA_PYTHONPATH" in refused.stdout
    move.run(command, tmp_path, asked | {"NORIA_PYTHONPATH": asked["PYTHONPATH"]})


@pytest.mark.parametrize("how", ["noria", "python -m noria"])
def test_nothing_comes_from_the_checkout_of_another_revision(
    noria: Installation, move: TrappedMove, tmp_path: Path, how: str
) -> None:
    tree = tmp_path / "tree"
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", OLD_LAYOUT], capture_output=True
    )
    if archive.returncode != 0:
        pytest.skip(f"this clone does not hold {OLD_LAYOUT}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as opened:
        opened.extractall(tree)
    mine(tree, tmp_path / "evidence")
    if how != "noria":
        (tree / "noria.py").unlink()  # Python itself finds that first
    move.run([*starts(noria, how), *move.command()], tree, {})
    assert list((tmp_path / "evidence").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["noria", "script"])
def test_nor_does_a_process_of_ray(
    installed: Installation, move: TrappedMove, tmp_path: Path, how: str
) -> None:
    traps = Traps(tmp_path / "traps", tmp_path / "evidence")
    (traps.folder / "a_script_of_mine.py").write_text(GUARDED)
    if how == "noria":
        command = [*starts(installed, how), *move.command("--ray")]
    else:
        script = [str(installed.python), "a_script_of_mine.py"]
        command = [*script, *move.ends(), str(move.root / "job"), "ray"]
    settings = environment(traps) | ({} if how == "noria" else {"PYTHONPATH": traps.folder})
    driver, _ = move.run(command, traps.folder, settings)
    assert others(traps.sprung(), driver) == set()
