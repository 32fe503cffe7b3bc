"""Bad input: one clear line that names the next step, exit code 2, and nothing written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.moves import Move, plain
from tests.support.processes import wait_until


@pytest.fixture
def move(make_move: Callable[..., Move]) -> Move:
    return make_move([plain("a", 10)])


def refused(move: Move, *arguments: str | Path) -> str:
    process = move.start(*arguments, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, (out, err)
    lines = err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("noria: ")
    assert json.loads(out)["exit_code"] == 2
    assert not move.job.exists(), "nothing is written"
    return lines[0]


def copy(move: Move, source: str | None = None, target: str | None = None) -> str:
    return refused(move, "copy", source or move.source, target or move.target, "--job", move.job)


def test_a_container_that_is_missing(move: Move) -> None:
    line = copy(move, source=f"az://{move.azurite.account}/no-such-container")
    assert "no-such-container" in line


def test_a_bucket_that_is_missing(move: Move) -> None:
    line = copy(move, target="s3://no-such-bucket-here")
    assert "no-such-bucket-here" in line


def test_a_storage_class_that_the_target_does_not_know(move: Move) -> None:
    ends = (move.source, move.target, "--job", move.job)
    process = move.start("copy", *ends, "--storage-class", "NONSENSE", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, (out, err)
    assert "InvalidStorageClass" in err
    assert "correct storage_class, acl or encryption of the target" in err
    assert not move.job.exists()


def test_a_wrong_secret_at_the_target(move: Move) -> None:
    move.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    line = copy(move)
    assert "wrong" not in line
    assert move.bucket in line


def test_a_wrong_key_at_the_source(move: Move) -> None:
    key = move.azurite.key
    move.environment["AZURE_STORAGE_CONNECTION_STRING"] = move.azurite.connection_string.replace(
        key, "d3Jvbmc="
    )
    assert "d3Jvbmc=" not in copy(move)


def test_a_source_prefix_below_which_nothing_lies(move: Move) -> None:
    assert "there is nothing below" in copy(move, source=f"{move.source}/typo")


def test_an_endpoint_where_nobody_answers(move: Move) -> None:
    move.environment["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:9"
    assert "no connection to 127.0.0.1" in copy(move)


@pytest.mark.parametrize("url", ["az://", "s3:/bucket", "gs://bucket/x", "relative/path"])
def test_urls_of_the_wrong_form(move: Move, url: str) -> None:
    assert "://" in copy(move, source=url)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[source\n", "not valid TOML"),
        ("[source]\nurl='az://a/c'\n", "target"),
        ("[source]\nurl='az://a/c'\n[target]\nurl='s3://b'\nsecret='x'\n", "secret"),
        ("[source]\nurl='az://a/c'\n[target]\nurl='s3://b'\n[plan]\npart_bytes='many'\n", "size"),
        ("[source]\nurl='az://a/c'\n[target]\nurl='s3://b'\n[run]\nstreams=0\n", "streams"),
        (
            "[source]\nurl='az://a/c'\n[target]\nurl='s3://b'\nendpoint='https://u:hunter2@h'\n",
            "endpoint",
        ),
    ],
)
def test_malformed_job_files(move: Move, text: str, word: str) -> None:
    path = move.job.with_suffix(".toml")
    path.write_text(text)
    line = refused(move, "run", path)
    assert word in line
    assert "hunter2" not in line


def test_a_job_file_that_is_not_there(move: Move) -> None:
    assert "cannot read" in refused(move, "run", move.job.with_suffix(".toml"))


def test_a_job_directory_of_another_job(move: Move) -> None:
    move.copy()
    process = move.start("copy", move.source, f"{move.target}/other", "--job", move.job)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "another directory" in err


def test_settings_that_cannot_work_together(move: Move) -> None:
    job_file = move.job_file(plan={"part_bytes": "1GiB"})
    for arguments in ((), ("--workers", "20000")):
        process = move.start("run", job_file, *arguments, "--json")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        assert "bytes_in_flight" in err or "run.workers" in err
        assert json.loads(out)["exit_code"] == 2


def test_a_corrected_inventory_can_be_planned_after_a_wrong_one(move: Move, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    wrong = move.job_file(inventory={"kind": "keys", "url": f"file://{keys}"})
    assert "keys" in refused(move, "plan", wrong)
    keys.write_text("a\n")
    assert move.noria("run", wrong)["outcomes"] == {"TRANSFERRED": 1}


def test_a_second_driver_is_refused_while_the_first_runs(make_move: Callable[..., Move]) -> None:
    move = make_move([plain(f"k{n:03}", 300_000) for n in range(100)])
    off = ("--metrics-address", "off")
    slowly = ("--bandwidth", "2MB/s")
    first = move.start("copy", move.source, move.target, "--job", move.job, *slowly, *off)
    wait_until((move.job / "epochs" / "0000000002.json").exists, "the run's own epoch")
    second = move.start("run", move.job, *off)
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2
    assert "another noria process" in err
    _, err = first.communicate(timeout=90)
    assert first.returncode == 0, err


def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    move = make_move([plain(f"k{n:04}", 100) for n in range(1500)])
    disk = tmp_path / "small"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small disk here")
    try:
        move.job = disk / "job"
        process = move.start(
            "copy", move.source, move.target, "--job", move.job, "--metrics-address", "off"
        )
        out, err = process.communicate(timeout=100)
        assert process.returncode == 3, (out, err)
        assert "Traceback" not in err
        assert "No space left on device" in out + err
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        done = move.copy()
        assert done["outcomes"] == {"TRANSFERRED": 1500}
        move.expect_all_arrived()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
        shutil.rmtree(disk)
