"""`noria check` finds what `rclone check` finds, and exits with its codes."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from noria.benchmarks.servers import find_tool
from noria.engine.checking import Check, Verdict
from noria.engine.config.jobfile import EndConfig
from noria.engine.looking import ListedPlace
from tests.support.moves import NORIA, Move

SECONDS = 60
NAMES = ["a", "a/b", "a-b", "a.b", "Z", "é", "z/\U0001f600", "z/\uffee", "deep/er/x", "deep/y"]


def trees(seed: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Two trees that differ in every way there is. A name is no folder of another in a tree."""
    draw = random.Random(seed)
    names = [f"{name}{number}" for name in NAMES for number in range(6)]
    first, second = {}, {}
    for name in names:
        body = draw.randbytes(draw.choice([0, 1, 100]))
        what = draw.choice(["same", "same", "bytes", "size", "first", "second"])
        if what != "second":
            first[name] = body
        if what != "first":
            other = bytes(255 - byte for byte in body) if what == "bytes" else body
            second[name] = other + b"+" if what == "size" else other
    return first, second


def fill_azure(move: Move, tree: Mapping[str, bytes]) -> str:
    with move.azurite.client() as client:
        for name, body in tree.items():
            client.get_blob_client(move.container, name).upload_blob(body)
    return move.source


def fill_s3(move: Move, tree: Mapping[str, bytes]) -> str:
    client = move.seaweedfs.client()
    for name, body in tree.items():
        client.put_object(Bucket=move.bucket, Key=name, Body=body)
    client.close()
    return move.target


def fill_folder(folder: Path, tree: Mapping[str, bytes]) -> str:
    for name, body in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return str(folder)


def by_rclone(move: Move, both: list[str], report: Path, *options: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "RCLONE_CONFIG_AZ_TYPE": "azureblob",
        "RCLONE_CONFIG_AZ_CONNECTION_STRING": move.azurite.connection_string,
        "RCLONE_CONFIG_S_TYPE": "s3",
        "RCLONE_CONFIG_S_PROVIDER": "SeaweedFS",
        "RCLONE_CONFIG_S_ENDPOINT": move.seaweedfs.endpoint,
        "RCLONE_CONFIG_S_ACCESS_KEY_ID": move.seaweedfs.access_key,
        "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": move.seaweedfs.secret_key,
    }
    ends = [
        url.replace(move.source, f"az:{move.container}").replace(move.target, f"s:{move.bucket}")
        for url in both
    ]
    command: list[str | Path] = [
        find_tool("rclone"),
        "check",
        *ends,
        "--combined",
        report,
        *options,
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=SECONDS)
    return ended.returncode, report.read_text()


def by_noria(move: Move, *arguments: str | Path) -> tuple[int, str, str]:
    process = move.start("check", *arguments)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


@pytest.mark.parametrize("options", [[], ["--download"], ["--one-way"]])
@pytest.mark.parametrize("seed", [1, 2])
def test_clouds_are_compared_as_rclone_does(
    make_move: Callable[..., Move], tmp_path: Path, options: list[str], seed: int
) -> None:
    move = make_move([])
    first, second = trees(seed)
    ends = [fill_azure(move, first), fill_s3(move, second)]
    code, expected = by_rclone(move, ends, tmp_path / "by-rclone", *options)
    assert by_noria(move, *ends, "--combined", tmp_path / "by-noria", *options)[0] == code == 1
    found = (tmp_path / "by-noria").read_text().splitlines()
    assert sorted(found) == sorted(expected.splitlines())
    assert found == sorted(found, key=lambda line: line[2:].encode())


def test_a_folder_is_compared_by_its_bytes(make_move: Callable[..., Move], tmp_path: Path) -> None:
    move = make_move([])
    first, second = trees(3)
    ends = [fill_folder(tmp_path / "folder", first), fill_s3(move, second)]
    code, expected = by_rclone(move, ends, tmp_path / "by-rclone", "--download")
    noria = by_noria(move, *ends, "--download", "--combined", "-")
    assert noria[0] == code == 1
    assert sorted(noria[1].splitlines()) == sorted(expected.splitlines())
    assert "differences found" in noria[2]


def test_what_it_says(make_move: Callable[..., Move], tmp_path: Path) -> None:
    move = make_move([])
    same = {"same": b"1", "empty": b"", "below/same": b"22"}
    ends = [
        fill_azure(move, {**same, "bytes": b"x", "gone": b"1"}),
        fill_s3(move, {**same, "bytes": b"y", "new": b"12345"}),
    ]
    code, out, err = by_noria(move, *ends)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        "differs       bytes  (MD5)",
        "missing on B  gone",
        "missing on A  new",
        "3 match",
        "1 differ",
        "1 missing on A",
        "1 missing on B",
        "3 differences found",
    ]
    code, out, _ = by_noria(
        move, *ends, "--json", "--differ", tmp_path / "differ", "--match", tmp_path / "match",
        "--missing-on-src", tmp_path / "a", "--missing-on-dst", tmp_path / "b",
    )  # fmt: skip
    summary = json.loads(out)
    assert (summary["equal"], summary["differences"], summary["match"]) == (False, 3, 3)
    names = [(tmp_path / name).read_text().split() for name in ("differ", "match", "a", "b")]
    assert names == [["bytes"], ["below/same", "empty", "same"], ["new"], ["gone"]]
    assert by_noria(move, *(f"{end}/below" for end in ends))[0] == 0
    assert by_noria(move, f"{ends[0]}/same", ends[1])[:2] == (0, "1 match\n0 differences found\n")
    assert by_noria(move, f"{ends[0]}/bytes", f"{ends[1]}/same", "--download")[0] == 1


def test_links_are_left_out_and_said(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill_folder(tmp_path / name, {"x/y": b"1"})
    (tmp_path / "a" / "link").symlink_to("x")
    (tmp_path / "b" / "empty").mkdir()
    ended = subprocess.run(
        [NORIA, "check", tmp_path / "a", tmp_path / "b"], capture_output=True, text=True
    )
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [
        "1 match, 1 of them by size alone (--download compares bytes)",
        "1 left out: links, sockets and the like",
        "0 differences found",
    ]


def test_a_name_that_is_not_utf8_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill_folder(tmp_path / name, {"x": b"1"})
    Path(os.fsdecode(bytes(tmp_path / "a") + b"/bad\xff")).write_bytes(b"1")
    for ends in (("a", "b"), ("a", "b", "--download"), ("b", "a")):
        ended = subprocess.run(
            [NORIA, "check", *ends], capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert ended.returncode == 1
        assert ended.stdout.startswith("error         bad")
        assert "  (its name is not UTF-8: rename it; convmv does that)\n" in ended.stdout
        assert "\n1 could not be compared\n0 differences found\n" in ended.stdout


def test_an_object_that_cannot_be_read_is_an_error_of_its_own(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(50)]
    for name in ("a", "b"):
        fill_folder(tmp_path / name, dict.fromkeys(names, b"1"))
    a, b = (ListedPlace(EndConfig(url=f"file://{tmp_path}/{name}"), name) for name in "ab")
    with a, b, Check(a, b, tmp_path) as check:
        pairs = check.pairs(one_way=False, transfers=1)
        next(pairs)
        (tmp_path / "b" / "48").unlink()
        (tmp_path / "b" / "49").write_bytes(b"2")
        found = {pair.name: pair.verdict for pair in pairs}
    assert [name for name, verdict in found.items() if verdict is Verdict.ERROR] == ["48", "49"]
    assert (check.counts.match, check.counts.errors) == (48, 2)


def test_wrong_usage_and_places_that_are_not_there(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    move = make_move([])
    fill_s3(move, {"x": b"1"})
    for arguments in (
        [move.target, "nowhere"],
        [move.target, "s3://no-such-bucket"],
        [f"{move.target}/no/such", move.target],
        [move.target, str(tmp_path / "no-folder")],
        [move.target, move.target, "--scratch", "/no/such"],
        [move.target, move.target, "--json", "--combined", "-"],
    ):
        code, _, err = by_noria(move, *arguments)
        assert code == 2, arguments
        assert len(err.splitlines()) == 1, err
    code, out, _ = by_noria(move, move.target, f"{move.target}/no/such", "--combined", "-")
    assert (code, out) == (1, "+ x\n")


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    fill_folder(tmp_path / "a", {f"{number}": b"1" for number in range(100)})
    (tmp_path / "b").mkdir()
    (tmp_path / "scratch").mkdir()
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [NORIA, "check", tmp_path / "a", tmp_path / "b", "--scratch", tmp_path / "scratch"],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=SECONDS,
    )
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert not list((tmp_path / "scratch").iterdir())
