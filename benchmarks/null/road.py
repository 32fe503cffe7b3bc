"""A path over a distance in front of a store: delay, rates, refusals to stay connected.

    .venv/bin/python -m noria.benchmarks.null.road [--tls] [--bytes 4000000000]

Run like this, it shows what the road itself costs, and how much it carries: the C loop moves bytes
between the null stores through two roads, as fast as it can and at some rates. In benchmarks and
tests:

    with run_null_sink() as sink, run_road(sink.port, delay_ms=10, rate=40e6) as road:
        far_away = sink.through(road.port)

`road.c` says what a road does, and what it cannot show.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from noria.benchmarks.measure.processes import read_times
from noria.benchmarks.null.programs import build
from noria.benchmarks.null.stores import (
    CEILING_BYTES,
    LOOP_KEY,
    run_loop,
    run_null_sink,
    run_null_source,
)
from noria.benchmarks.servers import (
    READY_POLL_SECONDS,
    READY_SECONDS,
    ServerProcess,
    free_ports,
)
from noria.benchmarks.servers.process import temporary_server_folder

LOG = "seconds"
COST_ROWS = ((1, None), (8, None), (32, None), (1, 40e6), (8, 40e6), (16, 40e6), (64, 10e6))
"""Streams, and the rate of each."""
PACED_DELAY_MS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadSecond:
    """What a road had done at one moment, since it began. Its log has one each second, or more."""

    unix_seconds: float
    up_bytes: int
    """That reached the store, and `down_bytes` its clients: heads and TLS included."""
    down_bytes: int
    connections: int
    """That are open at this moment."""
    cpu_seconds: float
    """Of the road, user and system."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A road that runs."""

    process: ServerProcess
    port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def cpu_seconds(self) -> float:
        """Of the road so far, user and system; in ticks of 10 ms."""
        times = read_times(self.pid)
        assert times is not None, "the road runs"
        return times.own_seconds

    def seconds(self) -> list[RoadSecond]:
        """Its log so far; the last may be a second old."""
        lines = (self.process.folder / LOG).read_text().splitlines(keepends=True)
        return [_parse_second(line) for line in lines if line.endswith("\n")]


def _parse_second(line: str) -> RoadSecond:
    unix_seconds, up_bytes, down_bytes, connections, cpu_seconds = line.split(",")
    return RoadSecond(
        unix_seconds=float(unix_seconds),
        up_bytes=int(up_bytes),
        down_bytes=int(down_bytes),
        connections=int(connections),
        cpu_seconds=float(cpu_seconds),
    )


@contextlib.contextmanager
def run_road(
    store_port: int,
    *,
    delay_ms: float = 0,
    jitter_ms: float = 0,
    rate: float | None = None,
    line: float | None = None,
    die_seconds: float | None = None,
    die_bytes: int | None = None,
    log_seconds: float = 1,
) -> Iterator[Road]:
    """A road to what listens on `store_port` of this machine.

    `delay_ms` is one way, half of a round trip, and `jitter_ms` is the most that comes on top.
    `rate` is what a connection carries in one direction, `line` what all carry together: bytes a
    second, None for as much as they can. A connection is reset after `die_seconds`, or when
    `die_bytes` have gone through it, both directions counted. Road.seconds has a line every
    `log_seconds`.

    Raises BuildFailed, and ServerFailed if the road does not come up.
    """
    options: Mapping[str, object] = {
        "--delay-us": round(delay_ms * 1000),
        "--jitter-us": round(jitter_ms * 1000),
        "--rate": rate,
        "--line": line,
        "--die-seconds": die_seconds,
        "--die-bytes": die_bytes,
        "--log": LOG,
        "--log-ms": round(log_seconds * 1000),
    }
    words = [str(word) for one in options.items() if one[1] is not None for word in one]
    program = build("null-road")
    (port,) = free_ports(1)
    with temporary_server_folder("road") as folder:
        process = _RoadProcess(
            [program, str(port), str(store_port), *words],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
        )
        process.start()
        try:
            yield Road(process=process, port=port)
        finally:
            process.kill()


class _RoadProcess(ServerProcess):
    """One that is ready when it writes its log: whoever connects gets through to the store."""

    def _wait_until_ready(self, child: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and child.poll() is None:
            if (self.folder / LOG).exists() and (self.folder / LOG).stat().st_size > 0:
                return
            time.sleep(READY_POLL_SECONDS)
        raise self._failure(f"not ready; exit status {child.poll()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadCost:
    """What the C loop gets between the null stores through two roads, and what these use."""

    streams: int
    rate: float | None
    """Bytes a second of each stream."""
    gb_per_second: float
    """10^9 bytes through all streams in a second of wall time."""
    source_road_seconds_per_gb: float
    """CPU, user and system, for each 10^9 bytes."""
    sink_road_seconds_per_gb: float


def measure_cost(
    tls: bool, *, streams: int, rate: float | None = None, size: int = CEILING_BYTES
) -> RoadCost:
    """The C loop moves `size` bytes in all. Everything shares this machine's cores."""
    delay_ms = 0 if rate is None else PACED_DELAY_MS
    with (
        run_null_source([(LOOP_KEY, size)], tls=tls) as source,
        run_null_sink(tls=tls) as sink,
        run_road(source.port, rate=rate, delay_ms=delay_ms) as source_road,
        run_road(sink.port, rate=rate, delay_ms=delay_ms) as sink_road,
    ):
        ends = source.through(source_road.port), sink.through(sink_road.port)
        ran = run_loop(*ends, key=LOOP_KEY, size=size // streams, streams=streams)
        return RoadCost(
            streams=streams,
            rate=rate,
            gb_per_second=ran.size / 1e9 / ran.wall_seconds,
            source_road_seconds_per_gb=source_road.cpu_seconds / (ran.size / 1e9),
            sink_road_seconds_per_gb=sink_road.cpu_seconds / (ran.size / 1e9),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tls", action="store_true", help="https on both sides")
    parser.add_argument("--bytes", type=int, default=2 * CEILING_BYTES, help="for each row")
    arguments = parser.parse_args()
    print(f"{'https' if arguments.tls else 'http'}; {platform.machine()}; CPU in s/GB")
    print("streams  MB/s each    GB/s  source's road  sink's road")
    for streams, rate in COST_ROWS:
        row = measure_cost(arguments.tls, streams=streams, rate=rate, size=arguments.bytes)
        each = "all" if row.rate is None else f"{row.rate / 1e6:.0f}"
        print(
            f"{row.streams:>7}{each:>11}{row.gb_per_second:>8.2f}"
            f"{row.source_road_seconds_per_gb:>15.3f}{row.sink_road_seconds_per_gb:>13.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
