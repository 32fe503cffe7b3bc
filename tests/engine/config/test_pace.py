"""How slow a connection may be: from the job file to the client of each store."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from noria.engine.config.reading import job_config
from noria.engine.config.stores import LeastPace, open_end
from noria.engine.worker_spec import WorkerSettings
from noria.workers.http.client import HttpClient, HttpSettings

ENVIRONMENT = {"AZURE_STORAGE_SAS_TOKEN": "sp=r&sig=x"}


@pytest.mark.parametrize(
    ("url", "module"),
    [
        ("az://account/container", "noria.workers.stores.azure.store"),
        ("s3://bucket", "noria.workers.stores.s3.store"),
    ],
)
def test_the_job_file_says_how_slow_a_connection_may_be(
    url: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[HttpSettings] = []

    def client(settings: HttpSettings, *rest: Any, **named: Any) -> HttpClient:
        asked.append(settings)
        return HttpClient(settings, *rest, **named)

    monkeypatch.setattr(importlib.import_module(module), "HttpClient", client)
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "r"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    config = job_config(
        {
            "source": {"url": url},
            "target": {"url": "file:///t"},
            "run": {"idle_seconds": 7, "least_rate": 50_000},
        },
        "a test",
    )
    settings = WorkerSettings.of(config.plan, config.run)
    pace = LeastPace(idle_seconds=settings.idle_seconds, least_rate=settings.least_rate)
    open_end(config.source, ENVIRONMENT, pace=pace).close()
    assert [(each.idle_seconds, each.least_rate) for each in asked] == [(7.0, 50_000.0)]
