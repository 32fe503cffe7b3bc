"""A source and a sink that cost next to nothing, and the loop that a mover is measured against.

    .venv/bin/python -m noria.benchmarks.null.stores [--tls] [--bytes 4000000000]

Run like this, it shows that the two are not the bottleneck: a plain C loop moves bytes from one to
the other, and what the loop and each server use is told apart. In benchmarks and tests:

    with run_null_source([("a/b", 4096)]) as source, run_null_sink() as sink:
        environment = {**os.environ, **source.env(), **sink.env()}
        subprocess.run(["noria", "copy", source.url, sink.url, ...], env=environment)

Every container of the source holds the given objects, and every bucket of the sink exists. What
the sink remembers is written in `benchmarks/null/sink.c`.
"""

from __future__ import annotations

import argparse
import atexit
import base64
import contextlib
import functools
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from azure.storage.blob import BlobServiceClient
from botocore.config import Config

from noria.benchmarks.measure.processes import read_times
from noria.benchmarks.null.certificates import ServerCertificate, make_certificate
from noria.benchmarks.null.programs import build
from noria.benchmarks.servers import REGION, ServerProcess, free_ports

ACCOUNT, CONTAINER, BUCKET = "null", "data", "sink"
ACCOUNT_KEY = base64.b64encode(b"the null source asks for none").decode()
ACCESS_KEY, SECRET_KEY = "null", "the-null-sink-asks-for-none"
PART_BYTES = 64 << 20
CEILING_STREAMS = (1, 2, 3, 4)
CEILING_BYTES = 2_000_000_000
LOOP_KEY = "loop"
COUNTS = "counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCeiling:
    """What a null store refuses: 503 with ServerBusy of the source, with SlowDown of the sink."""

    per_second: float
    """Requests; what comes faster than that is refused."""
    retry_after_seconds: int | None = None
    """What a refusal asks for; None: it does not say."""
    prefix: str | None = None
    """Of keys that have this ceiling; the others have none. None: every request has it."""

    def options(self) -> list[str]:
        said = {
            "--ceiling": self.per_second,
            "--retry-after": self.retry_after_seconds,
            "--ceiling-prefix": self.prefix,
        }
        return [str(word) for one in said.items() if one[1] is not None for word in one]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSecond:
    """What a null store had done at one moment, since it began. It counts once a second."""

    unix_seconds: float
    requests: int
    limited: int
    """Of the requests: those that a ceiling is for."""
    refused: int
    """Of these: those that were above it."""
    objects: int
    """That were written. Parts are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NullSource:
    """Azure Blob Storage out of memory: account `null`."""

    process: ServerProcess
    port: int
    ca_bundle: Path | None
    """None: plain http."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The account's URL; no slash at its end."""
        return f"{_scheme(self.ca_bundle)}://127.0.0.1:{self.port}/{ACCOUNT}"

    def seconds(self) -> list[StoreSecond]:
        """What it counted so far; the last may be a second old."""
        return _read_counts(self.process)

    @property
    def url(self) -> str:
        """As Noria writes it."""
        return f"az://{ACCOUNT}/{CONTAINER}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol={_scheme(self.ca_bundle)};AccountName={ACCOUNT};"
            f"AccountKey={ACCOUNT_KEY};BlobEndpoint={self.endpoint};"
        )

    def env(self) -> dict[str, str]:
        """For Noria, and with SSL_CERT_FILE for what is written in Go. See NullSink.env."""
        return {
            "AZURE_STORAGE_CONNECTION_STRING": self.connection_string,
            **_trust("REQUESTS_CA_BUNDLE", self.ca_bundle),
            **_trust("SSL_CERT_FILE", self.ca_bundle),
        }

    def through(self, port: int) -> NullSource:
        """The same store as it is reached by a road's port."""
        return replace(self, port=port)

    def client(self) -> BlobServiceClient:
        """A new client; close it, or use it in a `with`."""
        trust = True if self.ca_bundle is None else str(self.ca_bundle)
        return BlobServiceClient.from_connection_string(
            self.connection_string, connection_verify=trust
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NullSink:
    """S3 that throws bodies away; buckets are parts of the path."""

    process: ServerProcess
    port: int
    ca_bundle: Path | None
    """None: plain http."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The URL of the service; no slash at its end."""
        return f"{_scheme(self.ca_bundle)}://127.0.0.1:{self.port}"

    def seconds(self) -> list[StoreSecond]:
        """What it counted so far; the last may be a second old."""
        return _read_counts(self.process)

    @property
    def url(self) -> str:
        """As Noria writes it."""
        return f"s3://{BUCKET}"

    def env(self) -> dict[str, str]:
        """May be merged with NullSource.env: all servers of a process have one CA."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **_trust("AWS_CA_BUNDLE", self.ca_bundle),
            **_trust("SSL_CERT_FILE", self.ca_bundle),
        }

    def through(self, port: int) -> NullSink:
        """The same store as it is reached by a road's port."""
        return replace(self, port=port)

    def client(self) -> Any:
        """A new boto3 client; it tries once, so that a test sees the error."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=None if self.ca_bundle is None else str(self.ca_bundle),
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )


def _read_counts(process: ServerProcess) -> list[StoreSecond]:
    lines = (process.folder / COUNTS).read_text().splitlines(keepends=True)
    rows = [line.split(",") for line in lines if line.endswith("\n")]
    return [
        StoreSecond(
            unix_seconds=float(when),
            requests=int(requests),
            limited=int(limited),
            refused=int(refused),
            objects=int(objects),
        )
        for when, requests, limited, refused, objects in rows
    ]


def _scheme(ca_bundle: Path | None) -> str:
    return "http" if ca_bundle is None else "https"


def _trust(name: str, ca_bundle: Path | None) -> dict[str, str]:
    return {} if ca_bundle is None else {name: str(ca_bundle)}


@contextlib.contextmanager
def run_null_source(
    objects: Iterable[tuple[str, int]],
    *,
    tls: bool = False,
    ceiling: RequestCeiling | None = None,
) -> Iterator[NullSource]:
    """A source of `objects`: keys and sizes in bytes. Raises BuildFailed."""
    program = build("null-source")
    with _folder() as folder:
        listed = folder / "objects"
        with listed.open("w", newline="") as lines:
            for key, size in objects:
                if "\n" in key or "\0" in key:
                    raise ValueError(f"the null source cannot hold {key!r}")
                lines.write(f"{size}\t{key}\n")
        with _serving(program, [str(listed)], folder, tls, ceiling) as (process, port, ca_bundle):
            yield NullSource(process=process, port=port, ca_bundle=ca_bundle)


@contextlib.contextmanager
def run_null_sink(
    *, tls: bool = False, ceiling: RequestCeiling | None = None
) -> Iterator[NullSink]:
    """An empty sink. Raises BuildFailed."""
    program = build("null-sink")
    with (
        _folder() as folder,
        _serving(program, [], folder, tls, ceiling) as (process, port, ca_bundle),
    ):
        yield NullSink(process=process, port=port, ca_bundle=ca_bundle)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="noria-null-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _serving(
    program: Path,
    words: Sequence[str],
    folder: Path,
    tls: bool,
    ceiling: RequestCeiling | None,
) -> Iterator[tuple[ServerProcess, int, Path | None]]:
    certificate = _certificate() if tls else None
    (port,) = free_ports(1)
    options = ["--counts", COUNTS, *(ceiling.options() if ceiling else ())]
    command: list[str | Path] = [program, *options, str(port), *words]
    if certificate is not None:
        command += [certificate.certificate, certificate.key]
    # Over TLS too, the server says 400 to plain http: it is there.
    process = ServerProcess(command, folder=folder, endpoint=f"http://127.0.0.1:{port}")
    process.start()
    try:
        yield process, port, None if certificate is None else certificate.ca_bundle
    finally:
        process.kill()


@functools.cache
def _certificate() -> ServerCertificate:
    """One for all servers of this process, so that one file makes a client trust two of them."""
    folder = tempfile.mkdtemp(prefix="noria-null-tls-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_certificate(Path(folder))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRun:
    """What the C loop said of itself."""

    size: int
    """Bytes that all streams moved."""
    cpu_seconds: float
    wall_seconds: float
    last_part_xxh3_128: str


def loop_command(
    source: NullSource,
    sink: NullSink,
    *,
    key: str,
    size: int,
    streams: int = 1,
    part_bytes: int = PART_BYTES,
) -> list[str]:
    """The plain C loop recv -> XXH3-128 -> send: each stream copies `size` bytes of `key`.

    It prints what LoopRun holds as one line of JSON. Raises BuildFailed.
    """
    words = [source.port, sink.port, key, size, part_bytes, streams]
    trusted = [] if sink.ca_bundle is None else [str(sink.ca_bundle)]
    return [str(build("null-loop")), *map(str, words), *trusted]


def run_loop(source: NullSource, sink: NullSink, **task: Any) -> LoopRun:
    """ToolRun `loop_command` to its end."""
    command = loop_command(source, sink, **task)
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return LoopRun(size=said.pop("bytes"), **said)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """How fast the null stores are, with the C loop between them."""

    tls: bool
    streams: int
    gb_per_second: float
    """10^9 bytes through all streams in a second of wall time."""
    loop_seconds_per_gb: float
    """CPU, user and system, for each 10^9 bytes; so are the next two."""
    source_seconds_per_gb: float
    sink_seconds_per_gb: float


def measure_ceiling(
    tls: bool, *, size: int = CEILING_BYTES, stream_counts: Sequence[int] = CEILING_STREAMS
) -> list[Ceiling]:
    """The C loop between a null source and a null sink, `size` bytes for each number of streams.

    All three share this machine's cores. The servers' CPU comes in ticks of 10 ms.
    """
    with (
        run_null_source([(LOOP_KEY, size)], tls=tls) as source,
        run_null_sink(tls=tls) as sink,
    ):
        run_loop(source, sink, key=LOOP_KEY, size=size // 10)  # memory is there from now on
        return [_measure_streams(source, sink, size, streams) for streams in stream_counts]


def _measure_streams(source: NullSource, sink: NullSink, size: int, streams: int) -> Ceiling:
    before = [_cpu_seconds(server.pid) for server in (source, sink)]
    ran = run_loop(source, sink, key=LOOP_KEY, size=size // streams, streams=streams)
    after = [_cpu_seconds(server.pid) for server in (source, sink)]
    gigabytes = ran.size / 1e9
    source_seconds, sink_seconds = (b - a for a, b in zip(before, after, strict=True))
    return Ceiling(
        tls=sink.ca_bundle is not None,
        streams=streams,
        gb_per_second=gigabytes / ran.wall_seconds,
        loop_seconds_per_gb=ran.cpu_seconds / gigabytes,
        source_seconds_per_gb=source_seconds / gigabytes,
        sink_seconds_per_gb=sink_seconds / gigabytes,
    )


def _cpu_seconds(pid: int) -> float:
    times = read_times(pid)
    assert times is not None, "the server runs"
    return times.own_seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tls", action="store_true", help="https on both sides")
    parser.add_argument("--bytes", type=int, default=2 * CEILING_BYTES, help="for each row")
    arguments = parser.parse_args()
    print(f"{'https' if arguments.tls else 'http'}; {platform.machine()}; CPU in s/GB")
    print("streams    GB/s    loop  source    sink")
    for row in measure_ceiling(arguments.tls, size=arguments.bytes):
        print(
            f"{row.streams:>7}{row.gb_per_second:>8.2f}{row.loop_seconds_per_gb:>8.3f}"
            f"{row.source_seconds_per_gb:>8.3f}{row.sink_seconds_per_gb:>8.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
