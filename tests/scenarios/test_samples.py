"""A sample of a move to a real store: clean, then with rot in more objects than it allows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.benchmarks.servers.dataset import ObjectSpec
from tests.support.moves import Move, plain

SPECS = [plain(f"lake/{n:03}", 100 + n) for n in range(160)]
OFF = ("--metrics-address", "off", "--workers", "1")
RULE = ("--sample", "10%@90%")
DRAWN = 22


@pytest.fixture
def signed(make_move: Callable[[list[ObjectSpec]], Move], tmp_path: Path) -> Move:
    """A move that has ended, and whose receipts are signed."""
    move = make_move(SPECS)
    move.copy("--workers", "1")
    key = tmp_path / "mover"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    move.noria("sign", move.job, "--signing-key", key, "--name", "example.eu/mover")
    return move


def rot(move: Move, keys: list[str]) -> None:
    """Other bytes of the same length under these names."""
    client = move.seaweedfs.client()
    try:
        for key in keys:
            size = client.head_object(Bucket=move.bucket, Key=key)["ContentLength"]
            client.put_object(Bucket=move.bucket, Key=key, Body=b"r" * size)
    finally:
        client.close()


def test_a_clean_sample_of_a_store_makes_its_claim(signed: Move) -> None:
    found = signed.noria("verify", signed.job, *RULE, *OFF)
    sample = found["sample"]
    assert (found["level"], found["reread"], found["damaged"]) == ("sampled", DRAWN, 0)
    assert (sample["objects"], sample["reread"], sample["is_claimed"]) == (160, DRAWN, True)
    status = signed.noria("status", signed.job)
    assert status["verified"]["facts"]["sample_damaged_at_most"] == "10"
    assert (status["sealed"]["objects"], status["sealed"]["is_current"]) == (160, True)


def test_rot_in_enough_objects_is_found_and_nothing_is_claimed(signed: Move) -> None:
    """Of 160 objects 128 are rotten: a draw of 22 misses all of them once in 10^19 times."""
    rot(signed, [spec.key for spec in SPECS[:128]])
    found = signed.noria("verify", signed.job, *RULE, *OFF, exit_code=1)
    sample = found["sample"]
    assert not sample["is_claimed"]
    assert sample["damaged"] == found["damaged"] > 0
    assert sample["damaged"] + sample["reread"] == DRAWN
    assert signed.noria("status", signed.job)["damaged"] == {"target_changed": sample["damaged"]}


def test_what_a_sample_finds_missing_is_sent_again(signed: Move) -> None:
    client = signed.seaweedfs.client()
    try:
        for spec in SPECS[:128]:
            client.delete_object(Bucket=signed.bucket, Key=spec.key)
    finally:
        client.close()
    found = signed.noria("verify", signed.job, *RULE, *OFF, exit_code=1)["sample"]
    assert not found["is_claimed"]
    again = signed.noria("retry", signed.job, *OFF, exit_code=1)  # the others are missing still
    assert (again["retried"], again["damaged"]) == (found["damaged"], {})
    assert again["differences"] == {"missing": 128 - found["damaged"]}


def test_an_auditor_with_the_store_s_address_reads_the_same_objects(
    signed: Move, tmp_path: Path
) -> None:
    """sample.py, a client of its own, and what was handed over."""
    rot(signed, [spec.key for spec in SPECS[:128]])
    found = signed.noria("verify", signed.job, *RULE, *OFF, exit_code=1)["sample"]
    signed.noria("prove", signed.job, "--all")
    (key,) = (signed.job / "proof/keys").iterdir()
    fetch = tmp_path / "fetch.py"
    fetch.write_text(
        "import boto3, sys\n"
        f"client = boto3.client('s3', endpoint_url={signed.seaweedfs.endpoint!r})\n"
        f"body = client.get_object(Bucket={signed.bucket!r}, Key=sys.argv[1])['Body']\n"
        "sys.stdout.buffer.write(body.read())\n"
    )
    ran = subprocess.run(
        [
            *(sys.executable, signed.job / "proof/sample.py", "--key", key.read_text().strip()),
            *("--count", str(DRAWN), "--target", f"{sys.executable} {fetch} {{key}}"),
            signed.job / "proof",
        ],
        env=signed.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert ran.stdout.count(": same\n") == found["reread"]
    assert f"22 comparisons, {found['damaged']} of them went wrong" in ran.stdout
