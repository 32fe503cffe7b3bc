"""`noria ls`: what stands at a place, in lines that people and programs read."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.benchmarks.servers import S3Server
from tests.support.moves import NORIA, Move, plain

SECONDS = 60
SPECS = [plain("top", 10), plain("data/a", 20), plain("data/b/c", 3_000), plain("data/b/d", 40)]


def listed(move: Move, *arguments: str, exit_code: int = 0) -> str:
    process = move.start("ls", *arguments)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == exit_code, (out, err)
    return out if exit_code == 0 else err


@pytest.fixture(params=["azure", "s3", "folder"])
def place(
    request: pytest.FixtureRequest, make_move: Callable[..., Move], tmp_path: Path
) -> tuple[Move, str]:
    """A move, and a URL where all SPECS are."""
    move = make_move(SPECS)
    if request.param == "azure":
        return move, move.source
    if request.param == "s3":
        client = move.seaweedfs.client()
        for spec in SPECS:
            client.put_object(Bucket=move.bucket, Key=spec.key, Body=b"x" * spec.size)
        client.close()
        return move, move.target
    for spec in SPECS:
        path = tmp_path / "folder" / spec.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * spec.size)
    return move, str(tmp_path / "folder")


def test_one_folder_and_all_below_it(place: tuple[Move, str]) -> None:
    move, url = place
    lines = listed(move, url).splitlines()
    assert sorted(line.split()[-2:] for line in lines) == [["10", "top"], ["folder", "data/"]]
    lines = listed(move, f"{url}/data/", "--recursive").splitlines()
    assert sorted(line.split()[-2:] for line in lines) == [
        ["20", "a"],
        ["3000", "b/c"],
        ["40", "b/d"],
    ]
    assert all(len(line) <= 80 for line in lines)
    (line,) = listed(move, f"{url}/data/b/c").splitlines()
    day, _, size, name = line.split()
    assert (day[:2], size, name) == ("20", "3000", "c")


def test_documents_and_sums(place: tuple[Move, str]) -> None:
    move, url = place
    rows = [json.loads(line) for line in listed(move, url, "-R", "--json").splitlines()]
    assert {row["name"]: row["size"] for row in rows} == {spec.key: spec.size for spec in SPECS}
    assert all(row["modified"].endswith("Z") and row["etag"] for row in rows)
    etags = {row["name"]: row["etag"] for row in rows}
    lines = listed(move, url, "-R", "--etag").splitlines()
    assert {line.split()[-1]: line.split()[-2] for line in lines} == etags
    total = json.loads(listed(move, url, "-R", "--summary", "--json"))
    assert total == {"objects": 4, "bytes": 3_070, "folders": 0}
    assert listed(move, url, "--summary") == "1 object, 1 folder, 10 B (10 bytes)\n"


def test_more_than_a_page(make_move: Callable[..., Move]) -> None:
    move = make_move([])
    client = move.seaweedfs.client()
    for number in range(1_100):
        client.put_object(Bucket=move.bucket, Key=f"{number:05}", Body=b"")
    client.close()
    lines = listed(move, move.target).splitlines()
    assert [line.split()[-1] for line in lines] == [f"{number:05}" for number in range(1_100)]


def test_what_cannot_be_listed_is_one_line(make_move: Callable[..., Move]) -> None:
    move = make_move([plain("a", 1)])
    (line,) = listed(move, f"{move.source}/no/such", exit_code=2).splitlines()
    assert line.startswith("noria: there is nothing below az://")
    (line,) = listed(move, "s3://no-such-bucket", exit_code=2).splitlines()
    assert line.startswith("noria: cannot list s3://no-such-bucket/: ")
    move.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    (line,) = listed(move, move.target, exit_code=2).splitlines()
    assert line.startswith("noria: cannot list s3://")
    error = json.loads(move.start("ls", move.target, "--json").communicate(timeout=SECONDS)[0])
    assert error["exit_code"] == 2
    assert listed(move, move.target + "/new/", exit_code=2) != ""


def test_an_empty_place_is_no_error(seaweedfs: S3Server, s3_bucket: str) -> None:
    ended = subprocess.run(
        [NORIA, "ls", f"s3://{s3_bucket}"],
        env={**os.environ, **seaweedfs.env()},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert ended.stdout == ended.stderr == ""


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_reader_that_leaves_ends_it_without_a_word(tmp_path: Path, as_json: list[str]) -> None:
    for number in range(100):
        (tmp_path / f"{number}\N{ESCAPE}[2J\n").write_bytes(b"")
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [NORIA, "ls", tmp_path, *as_json], stdout=writing, stderr=subprocess.PIPE, timeout=SECONDS
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
    shown = subprocess.check_output([NORIA, "ls", tmp_path, *as_json], timeout=SECONDS)
    assert len(shown.splitlines()) == 100
    assert b"\x1b" not in shown


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [NORIA, "ls", tmp_path],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert ended.returncode == 3
    assert ended.stderr == "noria: no more could be written (No space left on device)\n"
