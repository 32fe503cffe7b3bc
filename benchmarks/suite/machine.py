"""What a result depends on besides the tools: the machine, and which version of everything ran."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path

from noria.benchmarks.servers import AZURITE_BLOB, NODE, ROOT, ToolMissing, find_tool
from noria.benchmarks.suite.openssl import measured_library

LOOP_TURNS = 5_000_000


def describe_machine() -> dict[str, str]:
    """Name -> what it is; the order is the one to show it in."""
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "CPU": f"{os.cpu_count()} x {_cpu_model()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load before (1, 5, 15 min)": load,
    }


def describe_versions() -> dict[str, str]:
    return {
        "Noria": f"{importlib.metadata.version('noria')}, {describe_revision(ROOT)}",
        "Python": f"{platform.python_version()}; "
        f"{_turn_nanoseconds():.0f} ns for each turn of an empty loop",
        "TLS library of what runs on Python": measured_library(),
        "Ray": importlib.metadata.version("ray"),
        "rclone": _first_line(find_tool("rclone"), "version"),
        "juicefs": _first_line(find_tool("juicefs"), "--version"),
        "msc": _msc_version(),
        "SeaweedFS": _first_line(find_tool("weed"), "version"),
        "Azurite": f"{_azurite_version()}, node {_first_line(NODE, '--version')}",
    }


def describe_revision(tree: Path) -> str:
    """The commit that a checkout is at, and whether it has been changed since."""
    commit = _git(tree, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return "no revision"
    changed = _git(tree, "status", "--porcelain", "--untracked-files=all")
    return f"revision {commit}" + (" with changes" if changed else "")


def _git(tree: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(tree), *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _first_line(program: Path, *words: str) -> str:
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=False)
    return (done.stdout.strip().splitlines() or ["?"])[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "?"


def _turn_nanoseconds() -> float:
    """CPU time of one turn of an empty loop: how this Python was built shows here."""
    began = time.process_time()
    for _ in range(LOOP_TURNS):
        pass
    return (time.process_time() - began) / LOOP_TURNS * 1e9


def _msc_version() -> str:
    try:
        program = find_tool("msc")
    except ToolMissing as missing:
        return str(missing)
    metadata = "import importlib.metadata as m; print(m.version('multi-storage-client'))"
    return f"multi-storage-client {_first_line(program.with_name('python'), '-c', metadata)}"


def _azurite_version() -> str:
    package = next(
        (parent / "package.json" for parent in AZURITE_BLOB.parents if parent.name == "azurite"),
        None,
    )
    return "?" if package is None else str(json.loads(package.read_text())["version"])
