"""Installs the wheel as a user does, in empty environments, and moves objects there.

    make release-check

Needs PyPI, and takes minutes. For each Python that Noria names: if uv finds it, on PATH say, the
wheel is installed in a new environment, its dependencies as deploy/requirements.lock pins them come
from PyPI, and files are moved; otherwise wheels of all dependencies are looked for. The SBOM is
held against CycloneDX's own schema. Prints one line for each, and exits with 1 if one fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from release import LOCK, build, sbom

ROOT: Final = Path(__file__).resolve().parents[1]
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
VALIDATOR: Final = "cyclonedx-python-lib[json-validation]==11.6.0"
VALIDATE: Final = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(error)[:2000] if error else 0)
"""
USE: Final = """
import sys
import noria
config = noria.job_config({"source": {"url": sys.argv[1]}, "target": {"url": sys.argv[2]}})
noria.plan(config, sys.argv[3])
with noria.start(sys.argv[3], overrides={"workers": 1}) as running:
    list(running)
assert running.result().exit_code == 0, running.result()
assert noria.verify(sys.argv[3], overrides={"workers": 1}).exit_code == 0
assert "ray" not in sys.modules
"""
OBJECTS: Final = 20


class CheckFailed(Exception):
    """A command of the check has failed."""


def checks(folder: Path) -> Iterator[tuple[str, bool]]:
    """What was tried, in words, and whether it went well."""
    wheel = build(exported(folder / "tree"), "wheel", folder)
    for python in PYTHONS:
        there = here(python)
        name = run(there, "--version", cwd=ROOT).strip() if there else f"Python {python}"
        what = "installed, moved files" if there else "not on this machine; wheels of all it needs"
        try:
            if there:
                move_files(wheel, there, folder / python)
            else:
                find_wheels(python, folder)
        except CheckFailed as failure:
            yield f"{name}: {what}: {failure}", False
        else:
            yield f"{name}: {what}", True
    bom = folder / "bom.json"
    bom.write_text(json.dumps(sbom(wheel, ROOT / LOCK, datetime.now(UTC))))
    try:
        uv("run", "--no-project", "--isolated", "--with", VALIDATOR, "python", "-c", VALIDATE, bom)
    except CheckFailed as failure:
        yield f"SBOM: {failure}", False
    else:
        yield "SBOM: valid by the schema of CycloneDX 1.6", True


def exported(tree: Path) -> Path:
    """The tree as it is here, uncommitted changes included, without what git ignores."""
    tree.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    names = [each for each in listed.stdout.split(b"\0") if each]
    there = b"\0".join(each for each in names if os.path.lexists(ROOT / os.fsdecode(each)))
    pack = ["tar", "-c", "--null", "--no-recursion", "-T", "-"]
    packed = subprocess.run(pack, cwd=ROOT, check=True, capture_output=True, input=there)
    subprocess.run(["tar", "-x"], cwd=tree, check=True, input=packed.stdout)
    return tree


def here(python: str) -> str | None:
    """The interpreter of this version, if there is one."""
    try:
        return uv("python", "find", "--no-python-downloads", "--system", python).strip()
    except CheckFailed:
        return None


def move_files(wheel: Path, python: str, folder: Path) -> None:
    """Install the wheel where nothing else is, then move files by command and by API."""
    source = folder / "source"
    source.mkdir(parents=True)
    for number in range(OBJECTS):
        (source / f"{number:02}").write_bytes(b"x" * number)
    uv("venv", "--quiet", "--python", python, folder / "venv")
    installed = folder / "venv" / "bin"
    pins = versions(folder / "versions")
    into = ("--quiet", "--python", installed / "python", "--constraint", pins)
    uv("pip", "install", *into, wheel)
    command = installed / "noria"
    said = run(command, "--version", cwd=folder)
    if not said.startswith("noria "):
        raise CheckFailed(f"noria --version said {said!r}")
    for name in ("by-command", "by-api"):
        (folder / name).mkdir()
    quiet = ("--metrics-address", "off", "--quiet", "--workers", "1")
    run(command, "copy", source, folder / "by-command", "--job", "job", *quiet, cwd=folder)
    use = (installed / "python", "-I", "-c", USE, source, folder / "by-api", "job-2")
    run(*use, cwd=folder)
    for name in ("by-command", "by-api"):
        there = {path.name: path.stat().st_size for path in (folder / name).iterdir()}
        if there != {f"{number:02}": number for number in range(OBJECTS)}:
            raise CheckFailed(f"{name}: not all has arrived")


def versions(file: Path) -> Path:
    """The pins of the image's lock, without hashes: a wheel that was just built has none there."""
    lock = (ROOT / "deploy" / LOCK).read_text()
    lines = re.findall(r"^([a-z0-9.-]+==[^\\\n]+?) *\\?$", lock, flags=re.MULTILINE)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def find_wheels(python: str, folder: Path) -> None:
    """Ask PyPI for wheels of all dependencies, as pinned, for a Python that is not here."""
    only = ("--only-binary", ":all:", "--python-version", python, "--no-config", "--quiet")
    pins = ("--constraint", versions(folder / f"versions-{python}"))
    uv("pip", "compile", ROOT / "pyproject.toml", *only, *pins, "-o", folder / f"found-{python}")


def uv(*words: str | Path) -> str:
    return run(Path(sys.executable).with_name("uv"), *words, cwd=ROOT)


def run(*words: str | Path, cwd: Path) -> str:
    """Standard output of a command that inherits nothing that is meant for Python."""
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    ended = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    if ended.returncode != 0:
        raise CheckFailed((ended.stdout + ended.stderr).strip() or f"exit {ended.returncode}")
    return ended.stdout


def main() -> None:
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for words, went_well in checks(Path(folder)):
            print(f"{'ok  ' if went_well else 'FAIL'}  {words}", flush=True)
            failed = failed or not went_well
    sys.exit(failed)


if __name__ == "__main__":
    main()
