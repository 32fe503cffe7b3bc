"""Every entry that a listing or an inventory shows ends as a row, or is counted with its cause."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.moves import NORIA, Move, plain

LATIN_1 = b"caf\xe9.txt"


def copy_folder(source: Path, target: Path, job: Path, exit_code: int) -> dict[str, Any]:
    command: list[str | Path] = [NORIA, "copy", source.as_uri(), target.as_uri(), "--json"]
    command += ["--job", job, "--metrics-address", "off"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == exit_code, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def test_what_a_folder_holds_beside_files_has_an_outcome(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "below").mkdir(parents=True)
    target.mkdir()
    (source / ".noria-notes").write_text("a user's own")
    (source / "below/.noria-draft-list").write_text("another one")
    (source / ".noria-draft-0f").write_text("left by a move that was killed")
    (source / "link").symlink_to("below")
    (source / "gone").symlink_to("nowhere")
    os.mkfifo(source / "below/pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(source / "socket"))
    done = copy_folder(source, target, tmp_path / "job", 1)
    assert done["outcomes"] == {"SKIPPED": 5, "TRANSFERRED": 2}
    assert done["causes"] == {"link": 2, "name_refused": 1, "special_file": 2}
    assert (target / ".noria-notes").read_text() == "a user's own"
    assert (target / "below/.noria-draft-list").read_text() == "another one"
    assert done["reconciled"]


def test_empty_folders_are_counted(tmp_path: Path) -> None:
    """PostgreSQL does not start without its empty folders (rclone#3453)."""
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source / "pg_tblspc", source / "below/empty", target / "made before"):
        folder.mkdir(parents=True)
    (source / "below/full").mkdir()
    (source / "below/full/file").write_text("x")
    done = copy_folder(source, target, tmp_path / "job", 0)
    assert done["outcomes"] == {"SKIPPED": 2, "TRANSFERRED": 1}
    assert done["causes"] == {"folder_stub": 2}
    assert done["reconciled"]


@pytest.mark.parametrize("seconds", [2**55, 2**62, -(2**55)])
def test_a_time_that_no_timestamp_holds_ends_no_plan(seconds: int, tmp_path: Path) -> None:
    """File systems in memory keep times that the columns of a plan cannot."""
    folder = Path("/dev/shm") / f"noria-{uuid.uuid4().hex}"
    folder.mkdir()
    try:
        for name in ("odd", "plain"):
            (folder / name).write_text("x")
        subprocess.run(["touch", "-d", f"@{seconds}", folder / "odd"], check=True)
        if (folder / "odd").stat().st_mtime != seconds:
            pytest.skip("this file system keeps no such time")
        (tmp_path / "target").mkdir()
        done = copy_folder(folder, tmp_path / "target", tmp_path / "job", 0)
    finally:
        shutil.rmtree(folder)
    assert done["outcomes"] == {"TRANSFERRED": 2}
    assert done["reconciled"]


def test_a_name_that_is_not_utf_8_fails_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "good").write_text("moves")
    Path(os.fsdecode(os.fsencode(source) + b"/" + LATIN_1)).write_text("stays")
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xea.txt")).write_text("stays, too")
    Path(os.fsdecode(os.fsencode(source) + b"/\xff")).mkdir()
    done = copy_folder(source, target, tmp_path / "job", 1)
    assert done["outcomes"] == {"SKIPPED": 3, "TRANSFERRED": 1}
    assert done["causes"] == {"name_not_utf8": 3}
    failures = pq.read_table(tmp_path / "job/failures.parquet")
    assert "caf\N{REPLACEMENT CHARACTER}e9.txt" in failures["key"].to_pylist()


def key_list(move: Move, names: list[str]) -> dict[str, Any]:
    path = move.job.with_name("keys.txt")
    path.write_text("\n".join(names) + "\n")
    return {"kind": "keys", "url": path.as_uri()}


def test_names_of_a_list_that_lie_outside_the_prefix_are_counted(
    make_move: Callable[..., Move],
) -> None:
    move = make_move([plain(f"data/{n}", 10) for n in range(3)])
    names = ["data/0", "data/1", "data/1", "other/2", "2"]
    job_file = move.job_file(source={"url": f"{move.source}/data"}, inventory=key_list(move, names))
    planned = move.noria("plan", job_file)
    passed_over = {"outside_prefix": 2, "duplicate": 1}
    assert (planned["objects"], planned["passed_over"]) == (2, passed_over)
    done = move.noria("run", job_file)
    assert (done["outcomes"], done["passed_over"]) == ({"TRANSFERRED": 2}, passed_over)


def test_a_list_of_relative_names_is_refused_until_it_is_said_to_be_one(
    make_move: Callable[..., Move],
) -> None:
    move = make_move([plain(f"data/{n}", 10) for n in range(3)])
    source, listed = {"url": f"{move.source}/data"}, key_list(move, ["0", "1"])
    refused = move.start("plan", move.job_file(source=source, inventory=listed))
    _, said = refused.communicate(timeout=100)
    assert refused.returncode == 2
    assert "none of 2 entries would be moved: 2 outside the source's prefix" in said
    assert 'inventory.names = "relative"' in said
    # Nothing is planned yet, so that the corrected job may be planned in the same directory.
    job_file = move.job_file(source=source, inventory={**listed, "names": "relative"})
    assert move.noria("run", job_file)["outcomes"] == {"TRANSFERRED": 2}


def test_a_plan_that_was_edited_afterwards_is_refused(make_move: Callable[..., Move]) -> None:
    move = make_move([plain("a", 10)])
    move.noria("plan", move.job_file())
    edited = move.start("run", move.job_file(plan={"names": "escape"}))
    _, said = edited.communicate(timeout=100)
    assert edited.returncode == 2
    assert "plan.names is not what" in said


def folder_with_links(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "folder/deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/outside").write_text("far")
    (source / "folder/file").write_text("near")
    (source / "to-file").symlink_to("folder/file")
    (source / "to-folder").symlink_to(tmp_path / "elsewhere")
    (source / "folder/deep/loop").symlink_to("../..")
    (source / "gone").symlink_to("nowhere")
    return source


def job_of_folders(tmp_path: Path, links: str, **plan: str) -> Path:
    source, target = folder_with_links(tmp_path), tmp_path / "target"
    target.mkdir()
    job_file = tmp_path / "job.toml"
    lines = [f'[source]\nurl = "{source.as_uri()}"\nlinks = "{links}"']
    lines.append(f'[target]\nurl = "{target.as_uri()}"\n[run]\nmetrics_address = "off"\n[plan]')
    lines += [f'{name} = "{value}"' for name, value in plan.items()]
    job_file.write_text("\n".join(lines))
    return job_file


def run_noria(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [NORIA, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_links_are_followed_if_that_is_asked_for(tmp_path: Path) -> None:
    ended = run_noria("run", job_of_folders(tmp_path, "follow"), "--json")
    assert ended.returncode == 0, ended.stderr
    done = json.loads(ended.stdout)
    assert done["outcomes"] == {"SKIPPED": 2, "TRANSFERRED": 3}
    assert done["causes"] == {"link": 2}, "one to nothing, one to a folder that it lies in"
    target = tmp_path / "target"
    arrived = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert arrived == {"folder/file", "to-file", "to-folder/outside"}
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert (target / "to-folder/outside").read_text() == "far"


def test_a_plan_with_links_is_refused_if_that_is_asked_for(tmp_path: Path) -> None:
    ended = run_noria("run", job_of_folders(tmp_path, "refuse"))
    assert ended.returncode == 2
    assert "symbolic link" in ended.stderr
    assert "source.links" in ended.stderr


def test_a_plan_that_leaves_something_out_is_refused_if_all_is_asked_for(tmp_path: Path) -> None:
    ended = run_noria("plan", job_of_folders(tmp_path, "skip", representable="all"))
    assert ended.returncode == 2
    assert "4 entries would not be moved (link: 4)" in ended.stderr
    assert not (tmp_path / "job/job.json").exists()
