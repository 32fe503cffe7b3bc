"""`noria failures`: all that did not land, by pseudonyms unless keys are asked for."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest

from tests.support.moves import NORIA

NAMES = [f"dir/{number:02},\N{ESCAPE}" for number in range(30)]
"""More than a report names, in characters that CSV and a terminal take for something else."""


def noria(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NORIA, *arguments], capture_output=True, text=True, timeout=100, check=False
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job in which all of NAMES failed, for others stand at their place."""
    root = tmp_path_factory.mktemp("failures")
    for name in NAMES:
        for end in ("source", "target"):
            path = root / end / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(end.encode())
    (root / "source" / "lands").write_bytes(b"")
    ended = noria(
        "copy", root / "source", root / "target", "--job", root / "job", "--metrics-address", "off"
    )
    assert ended.returncode == 1, ended.stderr
    return root / "job"


def test_names_are_pseudonyms_unless_keys_are_asked_for(job: Path) -> None:
    ended = noria("failures", job)
    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr, len(lines)) == (0, "", len(NAMES))
    assert all(line.startswith("object-") and "  target_conflict  " in line for line in lines)
    assert len({line.split()[0] for line in lines}) == len(NAMES)
    status = json.loads(noria("status", job, "--json").stdout)
    assert status["failures"][0]["name"] == lines[0].split()[0]
    shown = noria("failures", job, "--show-keys").stdout
    assert shown.startswith("dir/00,\\x1b  FAILED  target_conflict  ")
    assert "\N{ESCAPE}" not in shown


def test_programs_get_whole_names(job: Path) -> None:
    rows = [json.loads(line) for line in noria("failures", job, "--json").stdout.splitlines()]
    assert all(row["name"].startswith("object-") for row in rows)
    out = noria("failures", job, "--json", "--show-keys").stdout
    assert [json.loads(line)["name"] for line in out.splitlines()] == NAMES
    table = csv.DictReader(noria("failures", job, "--csv", "--show-keys").stdout.splitlines())
    assert [(row["name"], row["cause"]) for row in table] == [
        (name, "target_conflict") for name in NAMES
    ]


def test_nothing_to_list_and_wrong_usage(job: Path, tmp_path: Path) -> None:
    assert noria("failures", tmp_path).returncode == 2
    assert noria("failures", job, "--csv", "--json").returncode == 2
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "a").write_bytes(b"")
    root = tmp_path / "job"
    assert noria("copy", tmp_path / "source", tmp_path / "target", "--job", root).returncode == 0
    ended = noria("failures", root)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
