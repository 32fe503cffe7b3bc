"""Servers that speak S3: SeaweedFS, and `rclone serve s3`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from noria.benchmarks.servers.process import (
    ServerProcess,
    find_tool,
    free_ports,
    started,
    temporary_server_folder,
)

# SeaweedFS puts the gRPC port of each service this far above its HTTP port. The ports can be set
# one by one, but its worker looks for the admin service here all the same.
SEAWEEDFS_GRPC_OFFSET = 10_000
SEAWEEDFS_SERVICES = ("master", "volume", "filer", "s3", "admin")

# Every bucket takes a volume of its own, and the default is one volume for each GB of free disk:
# past that many buckets, writes answer 500. Volumes take no space until they are written.
SEAWEEDFS_VOLUMES = 10_000

REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Server:
    """An S3 endpoint with one pair of credentials that may do everything."""

    process: ServerProcess
    access_key: str
    secret_key: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The URL of the service; no slash at its end."""
        return self.process.endpoint

    def env(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,  # boto3 reads this one only
        }

    def client(self, *, endpoint: str | None = None) -> Any:
        """A new boto3 client for up to 32 threads; it tries once, so that a test sees the error.

        `endpoint` is a proxy's, where the server is not spoken to directly.
        """
        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                max_pool_connections=32,
            ),
        )


@contextlib.contextmanager
def run_seaweedfs(
    *,
    access_key: str = "noria-tests",
    secret_key: str = "noria-tests-secret",
    makes_users: bool = False,
) -> Iterator[S3Server]:
    """SeaweedFS: multipart, conditional writes and checksums much as AWS has them.

    `makes_users`: its IAM makes users and policies, at the same endpoint.
    """
    ports = dict(
        zip(
            SEAWEEDFS_SERVICES,
            free_ports(len(SEAWEEDFS_SERVICES), companion_offset=SEAWEEDFS_GRPC_OFFSET),
            strict=True,
        )
    )
    with temporary_server_folder("seaweedfs") as folder:
        process = ServerProcess(
            [
                find_tool("weed"),
                "mini",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                *(f"-{service}.port={port}" for service, port in ports.items()),
                # These two would take fixed ports, and a second instance would fail.
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-webdav=false",
                "-admin.ui=false",
                "-master.telemetry=false",
                f"-volume.max={SEAWEEDFS_VOLUMES}",
                f"-s3.iam.readOnly={str(not makes_users).lower()}",
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{ports['s3']}",
            environment={"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key},
        )
        try:
            with started(process):
                yield S3Server(process=process, access_key=access_key, secret_key=secret_key)
        finally:
            for port in ports.values():
                _remove_seaweedfs_sockets(port)


def _remove_seaweedfs_sockets(port: int) -> None:
    """SeaweedFS puts its sockets in /tmp, whatever TMPDIR says."""
    for socket_port in (port, port + SEAWEEDFS_GRPC_OFFSET):
        for path in Path("/tmp").glob(f"seaweedfs-*-{socket_port}.sock"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def run_rclone_s3(
    *, access_key: str = "noria-tests", secret_key: str = "noria-tests-secret"
) -> Iterator[S3Server]:
    """`rclone serve s3` over a folder: the least that calls itself S3.

    It checks no checksum but Content-MD5, ignores If-None-Match, and cannot replace a part.
    """
    (port,) = free_ports(1)
    with temporary_server_folder("rclone") as folder:
        data = folder / "data"
        data.mkdir()
        process = ServerProcess(
            [
                find_tool("rclone"),
                "serve",
                "s3",
                f"--addr=127.0.0.1:{port}",
                "--config=",  # none, rather than the developer's own
                f"--cache-dir={folder / 'cache'}",
                "--max-header-bytes=65536",  # of the default, 4096, user metadata may take 2048
                str(data),
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            environment={"RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'},
        )
        with started(process):
            yield S3Server(process=process, access_key=access_key, secret_key=secret_key)
