"""A local Ray: the processes it has, that it ends with its driver, and what it does where Ray has
changed. In processes of their own: Ray marks the one that starts it for good."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from noria.engine.cluster.imports import ABSENT
from tests.support.moves import descendants, wait_until

TETHER = Path(__file__).parents[3] / "engine/cluster/tether.py"
UP = """
import json, os, sys
{change}
from noria.engine.cluster.ray import Cluster
import ray
cluster = Cluster(None, cpus=2)
cluster.prestart_worker()
cluster.prestart_worker()
actors = cluster._spares
ray.get([actor.__ray_ready__.remote() for actor in actors])
look = lambda self, names: [name for name in names if sys.modules.get(name) is not None]
looked = ray.get(actors[0].__ray_call__.remote(look, {names!r}))
niceness = ray.get(actors[0].__ray_call__.remote(lambda self: __import__("os").nice(0)))
print(json.dumps({{"bare": cluster.is_bare, "loaded": looked, "niceness": niceness}}), flush=True)
sys.stdin.read()
assert cluster.close()
"""
TITLES = ("gcs_server", "raylet/raylet", "tether.py", "ray::", "default_worker", "ray_worker")


def start(change: str = "") -> tuple[subprocess.Popen[str], dict[str, object]]:
    """A driver with two workers on standby, and what it says of them."""
    code = UP.format(change=change, names=[*ABSENT, "noria.engine.worker_factory"])
    driver = subprocess.Popen(
        [sys.executable, "-c", code], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert driver.stdout is not None
    said: dict[str, object] = json.loads(driver.stdout.readline())
    return driver, said


def processes(driver: subprocess.Popen[str]) -> Counter[str]:
    commands = [command for _, command in descendants(driver.pid)]
    return Counter(
        next((title for title in TITLES if title in command.partition(" --")[0]), command)
        for command in commands
    )


def test_a_local_ray_has_no_process_that_no_job_uses() -> None:
    driver, said = start()
    try:
        assert said["bare"] is True, "Ray has changed: see engine.cluster._bare_node_class"
        assert processes(driver) == {
            "gcs_server": 1,
            "raylet/raylet": 1,
            "tether.py": 2,
            "ray::": 2,
        }
        assert said["loaded"] == ["noria.engine.worker_factory"]
        assert said["niceness"] == os.nice(0), "workers are no less important than their driver"
    finally:
        driver.communicate("", timeout=30)
    assert driver.returncode == 0
    assert list(descendants(driver.pid)) == []


def test_where_ray_has_changed_it_starts_as_it_likes() -> None:
    driver, said = start("import ray._raylet; del ray._raylet.METRICS_AGENT_PORT_NAME")
    try:
        assert said["bare"] is False
        assert processes(driver)["gcs_server"] == 1
    finally:
        driver.communicate("", timeout=60)
    assert driver.returncode == 0


@pytest.mark.parametrize("victim", ["driver", "raylet/raylet"])
def test_what_ray_started_does_not_outlive_the_one_that_is_killed(victim: str) -> None:
    driver, _ = start()
    family = dict(descendants(driver.pid))
    try:
        if victim == "driver":
            driver.kill()
            driver.wait()
            expected = set(family)
        else:
            raylet = next(pid for pid, command in family.items() if victim in command)
            os.kill(raylet, signal.SIGKILL)
            expected = {pid for pid, command in family.items() if "tether.py" in command}
        wait_until(lambda: not any(map(is_running, expected)), "their end", seconds=20)
    finally:
        driver.kill()
        driver.communicate()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_tether_becomes_its_command() -> None:
    command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), "/bin/echo", "a b", "c"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"a b c\n"


def test_a_tether_whose_parent_is_gone_already_does_not_start() -> None:
    command = [sys.executable, "-I", "-S", str(TETHER), "1", "/bin/echo"]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode != 0
    assert ended.stdout == b""
