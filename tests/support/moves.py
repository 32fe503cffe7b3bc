"""A whole move as a user runs it: the real command, real servers, two judges of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.benchmarks.servers import Azurite, S3Server, find_tool
from noria.benchmarks.servers.dataset import ObjectSpec, object_bytes
from tests.support.processes import (
    GATEWAY,
    LOCAL_WORKER,
    RAY_WORKER,
    command_of,
    descendants,
    is_alive,
    wait_until,
)

NORIA = Path(sys.executable).with_name("noria")
SEED = 5
RUN_SECONDS = 100
RAY_ITSELF = ("gcs_server", "raylet/raylet")
"""In the command lines of Ray's own processes."""


@dataclass
class Move:
    """One container, one bucket, one job directory, and the environment that leads to them."""

    azurite: Azurite
    seaweedfs: S3Server
    container: str
    bucket: str
    job: Path
    environment: dict[str, str]
    specs: list[ObjectSpec] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"az://{self.azurite.account}/{self.container}"

    @property
    def target(self) -> str:
        return f"s3://{self.bucket}"

    def job_file(self, **sections: Mapping[str, Any]) -> Path:
        """A job file for this move, with further sections or keys."""
        path = self.job.with_suffix(".toml")
        values: dict[str, dict[str, Any]] = {
            "source": {"url": self.source},
            "target": {"url": self.target},
            "run": {"metrics_address": "off"},
        }
        for name, section in sections.items():
            values.setdefault(name, {}).update(section)
        lines = []
        for name, section in values.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in section.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Run noria in a process group of its own, so that signals are the test's alone."""
        return subprocess.Popen(
            [NORIA, *arguments],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def noria(self, *arguments: str | Path, exit_code: int = 0) -> dict[str, Any]:
        """Run noria to its end with --json; the document it printed."""
        process = self.start(*arguments, "--json")
        out, err = process.communicate(timeout=RUN_SECONDS)
        assert process.returncode == exit_code, f"exit {process.returncode}\n{out}\n{err}"
        document: dict[str, Any] = json.loads(out)
        return document

    def copy(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        return self.noria(
            "copy",
            self.source,
            self.target,
            "--job",
            self.job,
            "--metrics-address",
            "off",
            *arguments,
            exit_code=exit_code,
        )

    def expect_rclone_finds_no_difference(self) -> None:
        """Another tool reads both sides and compares every byte."""
        environment = {
            **os.environ,
            "RCLONE_CONFIG_SOURCE_TYPE": "azureblob",
            "RCLONE_CONFIG_SOURCE_CONNECTION_STRING": self.azurite.connection_string,
            # rclone would look for names of its own instead of those that end in a dot.
            "RCLONE_CONFIG_SOURCE_ENCODING": "None",
            "RCLONE_CONFIG_TARGET_ENCODING": "None",
            "RCLONE_CONFIG_TARGET_TYPE": "s3",
            "RCLONE_CONFIG_TARGET_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_TARGET_ENDPOINT": self.seaweedfs.endpoint,
            "RCLONE_CONFIG_TARGET_ACCESS_KEY_ID": self.seaweedfs.access_key,
            "RCLONE_CONFIG_TARGET_SECRET_ACCESS_KEY": self.seaweedfs.secret_key,
        }
        ends = [f"source:{self.container}", f"target:{self.bucket}"]
        command: list[str | Path] = [
            find_tool("rclone"),
            "--config",
            os.devnull,
            "check",
            "--download",
            *ends,
        ]
        ended = subprocess.run(
            command,
            env=environment,
            text=True,
            capture_output=True,
            timeout=100,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr

    def expect_all_arrived(self) -> None:
        """Every byte at the target is the one that the seed gives; nothing else is there."""
        client = self.seaweedfs.client()
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
            found = {
                item["Key"]: item["Size"] for page in pages for item in page.get("Contents", ())
            }
            assert found == {spec.key: spec.size for spec in self.specs}
            for spec in self.specs:
                body = client.get_object(Bucket=self.bucket, Key=spec.key)["Body"].read()
                assert body == object_bytes(SEED, spec.key, 0, spec.size), spec.key
            assert not client.list_multipart_uploads(Bucket=self.bucket).get("Uploads")
        finally:
            client.close()


def plain(key: str, size: int) -> ObjectSpec:
    """An object about which nothing is special."""
    return ObjectSpec(key=key, size=size, content_type="application/octet-stream")


def kill_one(driver: subprocess.Popen[Any], title: str) -> None:
    """SIGKILL "driver", or the first of its descendants whose command line has the title."""
    if title == "driver":
        os.kill(driver.pid, signal.SIGKILL)
        return
    victims = [pid for pid, command in descendants(driver.pid) if title in command]
    assert victims, f"no {title} among the descendants of noria"
    os.kill(victims[0], signal.SIGKILL)


def expect_no_worker_left(family: list[tuple[int, str]], *, seconds: float = 30.0) -> None:
    """Workers of a killed run, and a Ray of its own, end by themselves, and soon."""
    left = [pid for pid, command in family if _is_ours(command)]

    def is_over() -> bool:
        return not any(is_alive(pid) and _is_ours(command_of(pid) or "") for pid in left)

    wait_until(is_over, "the end of its processes", seconds=seconds)


def _is_ours(command: str) -> bool:
    return any(part in command for part in (LOCAL_WORKER, GATEWAY, RAY_WORKER, *RAY_ITSELF))
