"""Many datasets in one migration: planned, moved, killed, gone on with, synced and looked at."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import S3Server
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.rows import dataset_rows
from tests.support.processes import LOCAL_WORKER, descendants, wait_until

NORIA = str(Path(sys.executable).with_name("noria"))


@dataclass(slots=True)
class Fleet:
    """Folders in a folder, each a dataset, and the command in a process of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    target: str = "./out/{name}"

    @property
    def directory(self) -> Path:
        return self.folder / "many"

    def fill(self, name: str, objects: int, *, size: int = 100) -> None:
        place = self.folder / "in" / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(objects):
            path = place / f"{number:05}"
            if not path.exists():  # what is there is not written again
                path.write_bytes(f"{name} {number} ".encode() * (size // 10))

    def file(self, *datasets: str | dict[str, Any], head: str = "") -> None:
        lines = [head]
        for each in datasets:
            one = {"name": each} if isinstance(each, str) else dict(each)
            one.setdefault("source", f"./in/{one['name']}")
            one.setdefault("target", self.target.format(name=one["name"]))
            lines += ["[[datasets]]", *(f"{key} = {json.dumps(one[key])}" for key in one), ""]
        (self.folder / "many.toml").write_text("\n".join(lines))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [NORIA, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def noria(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """The JSON document of a command."""
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, (process.returncode, out, err)
        found: dict[str, Any] = json.loads(out)
        return found

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        return self.noria("run", *arguments, "--metrics-address", "off", code=code)

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.noria("status", "many")["datasets"]}

    def said(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, (out, err)
        return out, err

    def arrived(self, name: str) -> None:
        """Every byte of a dataset, and nothing else, is at its target."""
        one, other = self.folder / "in" / name, self.folder / "out" / name
        there = {path.name: path.read_bytes() for path in other.iterdir()}
        assert there == {path.name: path.read_bytes() for path in one.iterdir()}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    return fleet


NAMES = [f"set-{number:02}" for number in range(20)]


def test_datasets_are_planned_run_and_looked_at_each_by_itself(fleet: Fleet) -> None:
    for place, name in enumerate(NAMES[:6]):
        fleet.fill(name, 5 * place)
    fleet.file(*NAMES[:6])
    planned = fleet.noria("plan", "many.toml")
    assert (planned["datasets"], planned["planned"], planned["objects"]) == (6, 6, 75)
    assert {row["phase"] for row in fleet.rows().values()} == {"planned", "stopped"} - (
        set() if fleet.rows()[NAMES[0]]["phase"] == "stopped" else {"stopped"}
    )
    ran = fleet.run("many")
    assert (ran["well"], ran["objects"], ran["refused"]) == (6, 75, {})
    for name in NAMES[:6]:
        fleet.arrived(name)
    # Each is a job directory like any other.
    one = f"many/datasets/{NAMES[3]}"
    assert fleet.noria("status", one)["outcomes"] == {"TRANSFERRED": 15}
    assert fleet.noria("verify", one, "--metrics-address", "off")["reread"] == 15
    assert fleet.noria("reconcile", one)["reconciled"]
    again = fleet.run("many.toml")
    assert (again["well"], again["untouched"], again["bytes_moved"]) == (6, 6, 0)


@pytest.mark.parametrize(
    "command",
    ["verify", "reconcile", "clean", "retry", "cutover", "rollback", "failures", "history"],
)
def test_other_commands_ask_for_one_dataset(fleet: Fleet, command: str) -> None:
    fleet.fill("one", 1)
    fleet.file("one")
    fleet.noria("plan", "many.toml")
    _, err = fleet.said(command, "many", code=2)
    (line,) = err.strip().splitlines()
    assert "many holds many datasets: name the directory of one of them" in line


def test_a_dataset_that_cannot_go_on_is_said_and_the_others_do(fleet: Fleet) -> None:
    for name in ("good", "fine"):
        fleet.fill(name, 30)
    fleet.file("good", "gone", "fine")
    out, err = fleet.said("run", "many.toml", "--metrics-address", "off", code=1)
    assert "2 of 3 datasets moved and verified: 60 objects" in out
    assert "gone did not go on: source file:///" in out
    assert "warning: gone: source file:///" in err
    rows = fleet.rows()
    assert (rows["gone"]["phase"], rows["good"]["phase"]) == ("refused", "finished")
    assert "gone" in rows["gone"]["message"]
    table, _ = fleet.said("status", "many")
    assert table.splitlines()[3].split()[:2] == ["gone", "refused"]
    # Once it is put right, the same command goes on with it alone.
    fleet.fill("gone", 3)
    ran = fleet.run("many")
    assert (ran["well"], ran["untouched"], ran["refused"]) == (3, 2, {})
    fleet.arrived("gone")
    assert fleet.rows()["gone"]["message"] is None


def test_failures_of_one_are_its_own(fleet: Fleet) -> None:
    for name in ("good", "taken"):
        fleet.fill(name, 20)
    place = fleet.folder / "out" / "taken"
    place.mkdir(parents=True)
    (place / "00003").write_bytes(b"another's")
    fleet.file("good", "taken")
    ran = fleet.run("many.toml", code=1)
    assert (ran["well"], ran["unwell"], ran["refused"]) == (1, 1, {})
    first, second = fleet.noria("status", "many")["datasets"]
    assert (first["name"], first["failed"]) == ("taken", 1)
    assert second["failed"] == 0
    assert (place / "00003").read_bytes() == b"another's"


def test_what_a_killed_run_left_is_gone_on_with(fleet: Fleet) -> None:
    """SIGKILL of the driver while some have ended, some are moved and some are not planned."""
    for name in NAMES:
        fleet.fill(name, 150)
    fleet.file(*NAMES)
    process = fleet.start("run", "many.toml", "--metrics-address", "off", "--workers", "2")
    ended = fleet.directory / "datasets"
    wait_until(
        lambda: any((ended / name / "reconcile.json").exists() for name in NAMES), "a first end"
    )
    workers = [pid for pid, command in descendants(process.pid) if LOCAL_WORKER in command]
    assert 1 <= len(workers) <= 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "their end")
    done = [row for row in fleet.rows().values() if row["phase"] == "finished"]
    assert 1 <= len(done) < len(NAMES)
    ran = fleet.run("many")
    assert ran["well"] == len(NAMES)
    assert ran["untouched"] == len(done)
    for name in NAMES:
        fleet.arrived(name)


def test_a_killed_worker_is_replaced(fleet: Fleet) -> None:
    for name in NAMES[:8]:
        fleet.fill(name, 400)
    fleet.file(*NAMES[:8])
    process = fleet.start("run", "many.toml", "--metrics-address", "off", "--json")
    killed: list[int] = []

    def kill_one() -> bool:
        for pid, command in descendants(process.pid):
            if LOCAL_WORKER in command:
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    wait_until(kill_one, "a worker")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, (out, err)
    assert json.loads(out)["well"] == 8
    for name in NAMES[:8]:
        fleet.arrived(name)


def test_an_end_that_is_asked_for_drains_all_and_the_next_run_goes_on(fleet: Fleet) -> None:
    for name in NAMES[:8]:
        fleet.fill(name, 400)
    fleet.file(*NAMES[:8])
    process = fleet.start("run", "many.toml", "--metrics-address", "off", "--json")
    ended = fleet.directory / "datasets"
    wait_until(lambda: ended.is_dir() and any(ended.glob("*/sealed/*")), "a first seal")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, (out, err)
    assert json.loads(out)["is_stopped"]
    assert all(row["phase"] != "refused" for row in fleet.rows().values())
    assert fleet.run("many")["well"] == 8
    for name in NAMES[:8]:
        fleet.arrived(name)


def test_what_has_a_higher_priority_goes_first(fleet: Fleet) -> None:
    for name in NAMES[:12]:
        fleet.fill(name, 40)
    urgent = NAMES[8:12]
    fleet.file(*NAMES[:8], *({"name": name, "priority": 3} for name in urgent))
    fleet.run("many.toml", "--workers", "1")
    planned = {
        name: (fleet.directory / "datasets" / name / "job.json").stat().st_mtime_ns
        for name in NAMES[:12]
    }
    assert set(sorted(planned, key=lambda name: planned[name])[:4]) == set(urgent)


def test_a_sync_of_all_moves_what_is_new_in_each(fleet: Fleet) -> None:
    for name in NAMES[:5]:
        fleet.fill(name, 10)
    fleet.file(*NAMES[:5])
    fleet.run("many.toml")
    fleet.fill(NAMES[1], 13)
    fleet.fill(NAMES[4], 11)
    ran = fleet.noria("sync", "many", "--metrics-address", "off")
    assert (ran["well"], ran["datasets"], ran["untouched"]) == (5, 5, 0)
    for name in NAMES[:5]:
        fleet.arrived(name)
    rows = fleet.rows()
    assert [rows[name]["passes"] for name in NAMES[:5]] == [2] * 5
    assert [rows[name]["objects"] for name in NAMES[:5]] == [0, 3, 0, 0, 1]
    assert all(row["lag_seconds"] is not None for row in rows.values())
    assert {row["state"] for row in rows.values()} == {"converging"} or {
        row["state"] for row in rows.values()
    } == {"copying"}
    # Each goes on by itself, too.
    fleet.fill(NAMES[0], 12)
    fleet.noria("sync", f"many/datasets/{NAMES[0]}", "--metrics-address", "off")
    assert fleet.rows()[NAMES[0]]["passes"] == 3


def test_folders_that_a_pattern_finds_are_datasets_and_new_ones_are_added(fleet: Fleet) -> None:
    for name in ("proj-a", "proj-b", "tmp-c"):
        fleet.fill(name, 4)
    (fleet.folder / "many.toml").write_text(
        '[[datasets]]\nsource = "./in/*"\ntarget = "./out/{container}"\nexclude = ["tmp-*"]\n'
    )
    planned = fleet.noria("plan", "many.toml")
    assert (planned["datasets"], list(planned["left_out"].values())) == (2, [1])
    fleet.run("many")
    fleet.fill("proj-d", 6)
    ran = fleet.noria("sync", "many", "--metrics-address", "off")
    assert ran["added"] == ["proj-d"]
    assert ran["well"] == 3
    for name in ("proj-a", "proj-b", "proj-d"):
        fleet.arrived(name)
    assert not (fleet.folder / "out" / "tmp-c").exists()
    fleet.fill("proj-e", 1)
    assert fleet.noria("plan", "many.toml")["added"] == ["proj-e"]


def test_a_job_file_may_name_more_later_and_nothing_else(fleet: Fleet) -> None:
    for name in NAMES[:3]:
        fleet.fill(name, 2)
    fleet.file(*NAMES[:2])
    fleet.run("many.toml")
    fleet.file(*NAMES[1:3])
    planned = fleet.noria("plan", "many.toml")
    assert (planned["added"], planned["unnamed"]) == ([NAMES[2]], [NAMES[0]])
    fleet.file({"name": NAMES[1], "target": "./elsewhere"})
    error = fleet.noria("plan", "many.toml", code=2)
    assert "has other ends" in error["error"]
    fleet.file(NAMES[1], head="[plan]\nshard_objects = 7\n")
    assert "a plan never changes" in fleet.noria("plan", "many.toml", code=2)["error"]


def test_a_copied_directory_sends_nothing_to_an_endpoint_that_it_alone_names(
    fleet: Fleet, seaweedfs: S3Server, s3_bucket: str
) -> None:
    fleet.fill("one", 2)
    environment = {**fleet.environment, **seaweedfs.env()}
    del environment["AWS_ENDPOINT_URL_S3"]
    fleet.environment = environment
    target = {"url": f"s3://{s3_bucket}/one/", "endpoint": seaweedfs.endpoint}
    fleet.file("one")
    text = (
        (fleet.folder / "many.toml")
        .read_text()
        .replace('"./out/one"', f'{{ url = "{target["url"]}", endpoint = "{target["endpoint"]}" }}')
    )
    (fleet.folder / "many.toml").write_text(text)
    fleet.noria("plan", "many.toml")
    shutil.rmtree(fleet.directory / "datasets")
    # Whoever planned it may run what is not planned yet; another user's cache knows nothing.
    fleet.environment["XDG_CACHE_HOME"] = str(fleet.folder / "another")
    ran = fleet.run("many", code=1)
    assert "names the endpoint" in ran["refused"]["one"]
    fleet.environment["XDG_CACHE_HOME"] = str(fleet.folder / "cache")
    assert fleet.run("many")["well"] == 1


@pytest.fixture
def on_s3(fleet: Fleet, seaweedfs: S3Server, s3_bucket: str) -> Callable[[], dict[str, bytes]]:
    """The targets are prefixes of one bucket; returns what is below them."""
    fleet.environment |= seaweedfs.env()
    fleet.target = f"s3://{s3_bucket}/all/{{name}}/"

    def landed() -> dict[str, bytes]:
        client = seaweedfs.client()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3_bucket, Prefix="all/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {
            key.removeprefix("all/"): client.get_object(Bucket=s3_bucket, Key=key)["Body"].read()
            for key in keys
        }

    return landed


def test_twenty_datasets_land_below_prefixes_of_one_bucket(
    fleet: Fleet, on_s3: Callable[[], dict[str, bytes]]
) -> None:
    """A driver and a worker are killed on the way, and one dataset has no source."""
    for name in NAMES[1:]:
        fleet.fill(name, 40)
    fleet.file(*NAMES)
    process = fleet.start("run", "many.toml", "--metrics-address", "off", "--workers", "2")
    ended = fleet.directory / "datasets"
    wait_until(lambda: bool(list(ended.glob("*/reconcile.json"))), "a first end")
    process.kill()
    process.communicate()
    again = fleet.start("run", "many.toml", "--metrics-address", "off", "--json")

    def kill_one() -> bool:
        pids = [pid for pid, command in descendants(again.pid) if LOCAL_WORKER in command]
        for pid in pids[:1]:
            os.kill(pid, signal.SIGKILL)
        return bool(pids)

    wait_until(kill_one, "a worker")
    out, err = again.communicate(timeout=300)
    assert again.returncode == 1, (out, err)
    ran = json.loads(out)
    assert (ran["well"], list(ran["refused"])) == (19, [NAMES[0]])
    sources = {
        f"{name}/{path.name}": path.read_bytes()
        for name in NAMES[1:]
        for path in (fleet.folder / "in" / name).iterdir()
    }
    assert on_s3() == sources


@pytest.mark.timeout(120)
def test_a_dataset_that_is_raised_gets_the_workers_within_ten_seconds(fleet: Fleet) -> None:
    """One worker, and more than it can do in a while."""
    for name in ("first", "second"):
        fleet.fill(name, 400, size=50_000)
    fleet.file("first", "second", head='[run]\nworkers = 1\nbandwidth = "500kB/s"')
    fleet.noria("plan", "many.toml")
    run = fleet.start("run", "many", "--metrics-address", "off")
    try:
        wait_until(lambda: sum(workers(fleet).values()) == 1, "one is at work", seconds=60)
        first, second = sorted(workers(fleet), key=lambda name: -workers(fleet)[name])
        done = fleet.rows()[second]["objects_done"]
        said = fleet.noria("set", "many", f"priority.{second}=5", "--reason", "due today")
        assert "set (control/000001.json); the run heeds it" in said["said"]
        wait_until(lambda: workers(fleet) == {first: 0, second: 1}, "it goes over", seconds=30)
        asked = datetime.fromisoformat(said["record"]["at"])
        assert datetime.now(UTC) - asked < timedelta(seconds=10)
        assert fleet.rows()[second]["priority"] == 5
        wait_until(lambda: fleet.rows()[second]["objects_done"] > done, "it moves", seconds=20)
        out, _ = fleet.said("status", "many")
        assert "PRIORITY" in out
        fleet.noria("set", "many", f"priority.{first}=6")
        wait_until(lambda: workers(fleet)[first] == 1, "and back", seconds=30)
    finally:
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 3, err
    assert f"priority of {second} is 5 by " in err


def workers(fleet: Fleet) -> dict[str, int]:
    """Read here: a command takes a second or two, on a busy machine."""
    return {row.name: row.workers for row in dataset_rows(FleetDirectory(fleet.directory))}
