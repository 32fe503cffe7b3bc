"""Alertmanager, from the package that `make setup` brings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from noria.benchmarks.servers.process import (
    ServerProcess,
    ToolMissing,
    find_tool,
    free_ports,
    started,
    temporary_server_folder,
)

TEMPLATES = Path("/usr/share/prometheus/alertmanager")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alertmanager:
    """Sends each alert that it is told of to one webhook, at once."""

    process: ServerProcess

    @property
    def address(self) -> str:
        """HOST:PORT, as Prometheus wants it."""
        return self.process.endpoint.removeprefix("http://")


@contextlib.contextmanager
def run_alertmanager(*, webhook: str) -> Iterator[Alertmanager]:
    """Alertmanager alone, with no cluster; `webhook` is a URL."""
    (port,) = free_ports(1)
    with temporary_server_folder("alertmanager") as folder:
        configuration = {
            "route": {
                "receiver": "people",
                "group_by": ["alertname"],
                "group_wait": "0s",
                "group_interval": "1s",
                "repeat_interval": "1h",
            },
            "receivers": [{"name": "people", "webhook_configs": [{"url": webhook}]}],
        }
        # It reads YAML, of which JSON is a part.
        (folder / "alertmanager.yml").write_text(json.dumps(configuration))
        process = ServerProcess(
            [
                *_program(),
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            ready_path="/-/ready",
            ready_statuses=range(200, 300),
        )
        with started(process):
            yield Alertmanager(process=process)


def _program() -> list[str | Path]:
    """As Debian calls it, else as its makers do.

    Debian's reads its templates from /usr/share alone. If it was only unpacked, it is shown a
    /usr/share with nothing but them, in a mount namespace of its own.
    """
    try:
        program = find_tool("prometheus-alertmanager")
    except ToolMissing:
        return [find_tool("alertmanager")]
    unpacked = program.parents[1] / "share/prometheus/alertmanager"
    if TEMPLATES.exists() or not unpacked.exists():
        return [program]
    show = f'mount -t tmpfs none /usr/share && mkdir -p {TEMPLATES} && cp -r "$0"/. {TEMPLATES}'
    namespace = ["--map-root-user", "--mount", "/bin/sh", "-c", f'{show} && exec "$@"']
    return [find_tool("unshare"), *namespace, unpacked, program]
