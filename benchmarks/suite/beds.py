"""Servers on both sides of a benchmark: the source filled, and a fresh target for every run.

with run_real_beds([workload]) as [test_bed], test_bed.fresh_ends() as ends:
    ...
    test_bed.arrived(ends)
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from noria.benchmarks.null import stores as null_stores
from noria.benchmarks.null.certificates import ServerCertificate, make_certificate
from noria.benchmarks.null.stores import NullSink, NullSource
from noria.benchmarks.servers import (
    READY_POLL_SECONDS,
    READY_SECONDS,
    SEAWEEDFS_GRPC_OFFSET,
    Azurite,
    S3Server,
    ServerProcess,
    free_ports,
    run_azurite,
    run_seaweedfs,
)
from noria.benchmarks.suite.sources import fill_container
from noria.benchmarks.suite.tools import Ends
from noria.benchmarks.suite.workloads import Sized, Workload

WARMING_KEY = "warming"


class TestBed(Protocol):
    """Both sides of a workload."""

    def fresh_ends(self) -> contextlib.AbstractContextManager[Ends]:
        """The filled container and a new, empty bucket, which goes with all that is in it."""
        ...

    def arrived(self, ends: Ends) -> tuple[int, int]:
        """How many objects lie in the bucket, and their bytes together, by its own listing."""
        ...


class RealTestBed:
    """Azurite and SeaweedFS."""

    def __init__(
        self, azurite: Azurite, container: str, seaweedfs: S3Server, tls: _Tls | None
    ) -> None:
        self._azurite = azurite
        self._container = container
        self._seaweedfs = seaweedfs
        self._tls = tls

    @contextlib.contextmanager
    def fresh_ends(self) -> Iterator[Ends]:
        bucket = f"bench-{uuid.uuid4().hex[:12]}"
        client = self._seaweedfs.client()
        client.create_bucket(Bucket=bucket)
        # SeaweedFS allocates volumes at the first write to a bucket, which takes it a second.
        client.put_object(Bucket=bucket, Key=WARMING_KEY, Body=b"")
        client.delete_object(Bucket=bucket, Key=WARMING_KEY)
        connection_string = self._azurite.connection_string
        if self._tls is not None:
            connection_string = connection_string.replace("http", "https")
        try:
            yield Ends(
                connection_string=connection_string,
                account=self._azurite.account,
                container=self._container,
                endpoint=self._seaweedfs.endpoint if self._tls is None else self._tls.s3_endpoint,
                access_key=self._seaweedfs.access_key,
                secret_key=self._seaweedfs.secret_key,
                bucket=bucket,
                ca_bundle=None if self._tls is None else self._tls.files.ca_bundle,
            )
        finally:
            client.delete_bucket(Bucket=bucket)  # SeaweedFS drops the objects with it
            client.close()

    def arrived(self, ends: Ends) -> tuple[int, int]:
        return count_objects(self._seaweedfs.client(), ends.bucket)


def count_objects(client: Any, bucket: str) -> tuple[int, int]:
    sizes = [
        entry["Size"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for entry in page.get("Contents", ())
    ]
    return len(sizes), sum(sizes)


@contextlib.contextmanager
def run_real_beds(
    workloads: Sequence[Workload], *, tls: bool = False
) -> Iterator[list[RealTestBed]]:
    """Both servers, with each workload's objects in a container of its own.

    All data is removed at the end.
    """
    containers = [f"source-{number}" for number in range(len(workloads))]
    with contextlib.ExitStack() as stack:
        azurite = stack.enter_context(run_azurite())
        for container, workload in zip(containers, workloads, strict=True):
            fill_container(workload.objects, azurite, container)
        seaweedfs = stack.enter_context(run_seaweedfs())
        speaking = stack.enter_context(_speaking_tls(azurite, seaweedfs)) if tls else None
        yield [RealTestBed(azurite, container, seaweedfs, speaking) for container in containers]


# -- servers that cost next to nothing -------------------------------------------------------------


class NullTestBed:
    """A null source and a null sink, which keeps no bodies."""

    def __init__(self, source: NullSource, sink: NullSink, bucket: str | None) -> None:
        self.source = source
        self.sink = sink
        self._bucket = bucket

    @contextlib.contextmanager
    def fresh_ends(self) -> Iterator[Ends]:
        yield Ends(
            connection_string=self.source.connection_string,
            account=null_stores.ACCOUNT,
            container=null_stores.CONTAINER,
            endpoint=self.sink.endpoint,
            access_key=null_stores.ACCESS_KEY,
            secret_key=null_stores.SECRET_KEY,
            bucket=self._bucket or f"bench-{uuid.uuid4().hex[:12]}",
            ca_bundle=self.sink.ca_bundle,
            takes_trailers=False,
        )

    def arrived(self, ends: Ends) -> tuple[int, int]:
        return count_objects(self.sink.client(), ends.bucket)


@contextlib.contextmanager
def run_null_bed(
    objects: Sequence[Sized], *, tls: bool, bucket: str | None = None
) -> Iterator[NullTestBed]:
    """`bucket` is written to at every run; by default each has a new one."""
    with (
        null_stores.run_null_source(objects, tls=tls) as source,
        null_stores.run_null_sink(tls=tls) as sink,
    ):
        yield NullTestBed(source, sink, bucket)


# -- either ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def run_bed(workload: Workload) -> Iterator[TestBed]:
    """The servers that a workload is for, filled with its objects."""
    if workload.null:
        with run_null_bed(workload.objects, tls=workload.tls) as null_test_bed:
            yield null_test_bed
        return
    with run_real_beds([workload], tls=workload.tls) as [test_bed]:
        yield test_bed


# -- https -----------------------------------------------------------------------------------------


class _Tls:
    """Where the servers speak https, and whom they show."""

    def __init__(self, files: ServerCertificate, s3_endpoint: str) -> None:
        self.files = files
        self.s3_endpoint = s3_endpoint


@contextlib.contextmanager
def _speaking_tls(azurite: Azurite, seaweedfs: S3Server) -> Iterator[_Tls]:
    """Both servers started again over their data, with certificates.

    Azurite then speaks https alone; SeaweedFS does so on a second port.
    """
    folder = Path(tempfile.mkdtemp(prefix="noria-certificates-"))
    try:
        files = make_certificate(folder)
        (port,) = free_ports(1, companion_offset=SEAWEEDFS_GRPC_OFFSET)
        seaweedfs.process.stop()
        seaweedfs.process.command += [
            f"-s3.port.https={port}",
            f"-s3.cert.file={files.certificate}",
            f"-s3.key.file={files.key}",
        ]
        seaweedfs.process.start()
        azurite.process.stop()
        with_tls = _TlsServerProcess(
            [*azurite.process.command, f"--cert={files.certificate}", f"--key={files.key}"],
            folder=azurite.process.folder,
            endpoint=azurite.process.endpoint.replace("http", "https"),
            environment={"AZURITE_ACCOUNTS": f"{azurite.account}:{azurite.key}"},
        )
        with_tls.start()
        try:
            yield _Tls(files, f"https://127.0.0.1:{port}")
        finally:
            with_tls.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _TlsServerProcess(ServerProcess):
    """One that answers plain http with nothing, and is ready when it shakes hands."""

    def _wait_until_ready(self, child: subprocess.Popen[bytes]) -> None:
        host, _, port = self.endpoint.rpartition("//")[2].partition(":")
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and child.poll() is None:
            try:
                with (
                    socket.create_connection((host, int(port)), timeout=1) as plain,
                    context.wrap_socket(plain),
                ):
                    return
            except OSError:
                time.sleep(READY_POLL_SECONDS)
        raise self._failure(f"not ready; exit status {child.poll()}")
