"""What commands print into pipes: whole lines, one document, and no reader changes the outcome."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.moves import NORIA

LONG = "n" * 200


@pytest.fixture
def ends(tmp_path: Path) -> list[str]:
    """Arguments of a `noria copy` of which one object is refused, under a long name."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    for name in ("a", LONG):
        (tmp_path / "source" / name).write_bytes(b"x")
    (tmp_path / "target" / LONG).write_bytes(b"another")
    return [f"file://{tmp_path}/source", f"file://{tmp_path}/target", "--job", f"{tmp_path}/job"]


def noria(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NORIA, *arguments],
        **{"capture_output": True, "text": True, "timeout": 100, "check": False, **options},
    )


def test_one_is_not_many(tmp_path: Path) -> None:
    """Each command about one object of one byte, in one shard, by one worker."""
    source, target, root = (tmp_path / name for name in ("source", "target", "job"))
    source.mkdir()
    (source / "a").write_bytes(b"x")
    job_file = tmp_path / "job.toml"
    job_file.write_text(f'source = "{source}"\ntarget = "{target}"\n')
    said = ""
    for command in (
        ["copy", source, target, "--dry-run"],
        ["estimate", source, target, "--workers", "1"],
        ["plan", job_file],
        ["run", root, "--workers", "1", "--metrics-address", "off"],
        ["verify", root, "--workers", "1", "--metrics-address", "off"],
        ["status", root],
        ["clean", root],
        ["ls", source],
        ["check", source, target],
    ):
        ended = noria(*map(str, command))
        assert ended.returncode == 0, ended.stderr
        said += ended.stdout + ended.stderr
    assert "1 of 1 object," in said
    assert "will move in 1 shard\n" in said
    assert not re.findall(r"(?<![\d,.])1 (?!s\b)[a-z]+s\b.*", said)


def test_a_record_is_one_line(ends: list[str]) -> None:
    ended = noria("copy", *ends, "--metrics-address", "off", "--show-keys")
    assert ended.returncode == 1, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("nnn")]
    assert line.split() == [LONG, "FAILED", "target_conflict", *line.split()[3:]]
    assert line.endswith("run `noria retry`")
    assert "…" not in ended.stdout


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_reader_that_leaves_changes_no_outcome(ends: list[str], as_json: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = noria(
        "copy", *ends, "--metrics-address", "off", *as_json,
        capture_output=False, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    assert ended.returncode == 1, ended.stderr
    assert "unexpected" not in ended.stderr
    assert "Broken" not in ended.stderr
    assert "ignored" not in ended.stderr


def test_nobody_reads_at_all(ends: list[str], tmp_path: Path) -> None:
    (tmp_path / "target" / LONG).unlink()
    reading, writing = os.pipe()
    os.close(reading)
    ended = noria("copy", *ends, capture_output=False, stdout=writing, stderr=writing)
    os.close(writing)
    assert ended.returncode == 0


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_are_closed_from_the_start_change_no_outcome(
    ends: list[str], tmp_path: Path, closed: str
) -> None:
    (tmp_path / "target" / LONG).unlink()
    command = shlex.join([str(NORIA), "copy", *ends, "--metrics-address", "off"])
    ended = subprocess.run(
        ["sh", "-c", f"exec {command} {closed}"], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0
    said = ended.stdout.splitlines()
    # Only the report, and nothing of what was to be said on the other stream.
    assert not [line for line in said if line.startswith("noria:")]
    assert bool(said) == (closed == "2>&-")


def test_a_name_that_an_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    (tmp_path / "\xfc").write_bytes(b"1")
    ended = noria("ls", str(tmp_path), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("  \\xfc\n")


def test_a_report_that_cannot_be_written_is_said(ends: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = noria(
            "copy", *ends, "--json", "--metrics-address", "off",
            capture_output=False, stdout=full, stderr=subprocess.PIPE,
        )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines() == [
        "noria: the report could not be written (No space left on device)"
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["copy", "--json"],
        ["copy", "a", "b", "--no-such-option", "--json"],
        ["copy", "a", "b", "--streams", "many", "--json"],
        ["no-such-command", "--json"],
        ["status", "--json"],
        ["status", "/nowhere", "--json"],
        ["copy", "nowhere", "nowhere", "--json"],
    ],
)
def test_wrong_usage_is_one_document_too(arguments: list[str]) -> None:
    ended = noria(*arguments)
    document = json.loads(ended.stdout)
    assert ended.returncode == document["exit_code"] == 2
    assert document["error"]
    assert document["cause"] in ("usage", "configuration")
    assert ended.stderr
