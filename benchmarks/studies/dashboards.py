"""The demo, watched: its live page, a Prometheus over it, and Grafana where it is installed.

    .venv/bin/python -m noria.benchmarks.studies.dashboards [--bytes 1000000000] [--once]

Moves about 1 GB from Azurite to SeaweedFS as `make demo` does, with a bandwidth that lets one look.
Prometheus and Grafana stay until Ctrl-C; with --once all ends with the move.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from noria.benchmarks.servers import (
    ROOT,
    Prometheus,
    ServerProcess,
    ToolMissing,
    find_tool,
    free_ports,
    run_azurite,
    run_prometheus,
    run_seaweedfs,
)
from noria.benchmarks.servers.process import started, temporary_server_folder
from noria.benchmarks.studies.demo import BUCKET, CONTAINER, fill

BANDWIDTH = "10MB/s"
"""1 GB then takes two minutes: eight scrapes of a Prometheus as others set it up."""
LATEST = timedelta(minutes=5)
"""After the begin of the demo: its deadline."""


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bytes", type=int, default=1_000_000_000)
    arguments.add_argument("--bandwidth", default=BANDWIDTH)
    arguments.add_argument("--once", action="store_true", help="end with the move")
    given = arguments.parse_args()
    (port,) = free_ports(1)
    rules = ROOT / "deploy/prometheus/rules.yml"
    with (
        run_azurite() as azurite,
        run_seaweedfs() as seaweedfs,
        run_prometheus(targets=[f"127.0.0.1:{port}"], rule_files=[rules]) as prometheus,
        _grafana(prometheus) as grafana,
    ):
        seaweedfs.client().create_bucket(Bucket=BUCKET)
        fill(azurite, given.bytes)
        print(f"the live page: http://127.0.0.1:{port}/")
        print(f"Prometheus:    {prometheus.endpoint}/alerts")
        print(f"Grafana:       {grafana or 'not installed; import deploy/grafana/noria-*.json'}")
        job = Path(tempfile.mkdtemp(prefix="noria-demo-")) / "job"
        deadline = datetime.now(UTC) + LATEST
        command = [
            *(sys.executable, "-m", "noria", "copy", f"az://{azurite.account}/{CONTAINER}"),
            *(f"s3://{BUCKET}/2026", f"--job={job}", f"--metrics-address=127.0.0.1:{port}"),
            *(f"--bandwidth={given.bandwidth}", f"--deadline={deadline.isoformat()}"),
        ]
        print("$", "noria", *command[3:], flush=True)
        environment = {**os.environ, **azurite.env(), **seaweedfs.env()}
        ended = subprocess.run(command, env=environment, check=False)
        if not given.once:
            print("what was scraped stays to be looked at until Ctrl-C", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    return ended.returncode


@contextlib.contextmanager
def _grafana(prometheus: Prometheus) -> Iterator[str | None]:
    """A Grafana with all dashboards that anybody on this machine may read: its URL, if any."""
    try:
        program = find_tool("grafana")
    except ToolMissing:
        yield None
        return
    (port,) = free_ports(1)
    with temporary_server_folder("grafana") as folder:
        process = ServerProcess(
            [
                program,
                "server",
                f"--homepath={os.environ.get('GRAFANA_HOME', '/usr/share/grafana')}",
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            ready_path="/api/health",
            ready_statuses=range(200, 300),
            environment={
                "GF_PATHS_DATA": str(folder),
                "GF_PATHS_PROVISIONING": str(ROOT / "deploy/grafana/provisioning"),
                "GF_SERVER_HTTP_ADDR": "127.0.0.1",
                "GF_SERVER_HTTP_PORT": str(port),
                "GF_AUTH_ANONYMOUS_ENABLED": "true",
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                "PROMETHEUS_URL": prometheus.endpoint,
                "NORIA_DASHBOARDS": str(ROOT / "deploy/grafana"),
            },
        )
        with started(process):
            yield f"{process.endpoint}/dashboards"


if __name__ == "__main__":
    sys.exit(main())
