"""Prometheus, from the package that `make setup` brings."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from noria.benchmarks.servers.process import (
    READY_SECONDS,
    ServerProcess,
    find_tool,
    free_ports,
    started,
    temporary_server_folder,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A Prometheus that scrapes, and evaluates its rules, every second."""

    process: ServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The URL of the service; no slash at its end."""
        return self.process.endpoint

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The result of an instant query.

        A vector has one {"metric": labels, "value": [t, v]} for each series; v is a string. Raises
        `urllib.error.HTTPError` for a bad query.
        """
        result: list[dict[str, Any]] = self._get("query", query=promql)["result"]
        return result

    def query_range(
        self, promql: str, start: float, end: float, step_seconds: float
    ) -> list[dict[str, Any]]:
        """The result at every step from `start` to `end`, in seconds since 1970.

        One {"metric": labels, "values": [[t, v], ...]} for each series; v is a string. Raises
        `urllib.error.HTTPError` for a bad query.
        """
        result: list[dict[str, Any]] = self._get(
            "query_range", query=promql, start=str(start), end=str(end), step=str(step_seconds)
        )["result"]
        return result

    def rule_groups(self) -> list[dict[str, Any]]:
        """The rule groups as Prometheus loaded them, each rule with its health and last error."""
        groups: list[dict[str, Any]] = self._get("rules")["groups"]
        return groups

    def _get(self, path: str, **parameters: str) -> Any:
        url = f"{self.endpoint}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=READY_SECONDS) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def run_prometheus(
    *,
    targets: Sequence[str] = (),
    rule_files: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
    labels: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Prometheus]:
    """Prometheus over `targets` ("127.0.0.1:9100"), with its own rules from `rule_files`.

    Alerts go to `alertmanagers`, with `labels` as external ones.
    """
    (port,) = free_ports(1)
    with temporary_server_folder("prometheus") as folder:
        configuration = {
            "global": {
                "scrape_interval": "1s",
                "evaluation_interval": "1s",
                "external_labels": dict(labels),
            },
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
            "rule_files": [str(path.resolve()) for path in rule_files],
            "scrape_configs": [
                {"job_name": "noria", "static_configs": [{"targets": list(targets)}]}
            ],
        }
        # Prometheus reads YAML, of which JSON is a part.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))
        process = ServerProcess(
            [
                find_tool("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            ready_path="/-/ready",
            ready_statuses=range(200, 300),
        )
        with started(process):
            yield Prometheus(process=process)
