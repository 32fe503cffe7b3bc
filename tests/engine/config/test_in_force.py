"""Which settings hold and where they come from; what opens a store is named and never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from noria.__main__ import app
from noria.engine import job
from noria.engine.config.in_force import settings_in_force
from noria.engine.config.jobfile import JobConfig
from noria.engine.config.reading import job_config
from tests.support.finished_jobs import config_of, write_source

SECRET = "c2VjcmV0LXZhbHVl"


def shown(*arguments: str | Path, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["config", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == exit_code, result.stderr
    return result.stdout if exit_code == 0 else result.stderr


def documents(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(shown(*arguments, "--json"))["settings"]}


@pytest.fixture(autouse=True)
def _no_clouds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def test_the_lines_of_a_job_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        'source = "/data"\n[target]\nurl = "/copy"\n[run]\n\nstreams = 9\nretry_seconds = "5m"\n'
    )
    found = documents(path)
    assert found["source.url"]["origin"] == f"{path}:1"
    assert found["target.url"]["origin"] == f"{path}:3"
    assert found["run.streams"] == {
        "name": "run.streams", "value": 9, "unit": None, "origin": f"{path}:6"
    }  # fmt: skip
    assert (found["run.retry_seconds"]["value"], found["run.retry_seconds"]["unit"]) == (300, "s")
    assert found["run.leases"]["origin"] == "default"
    assert found["plan.chunk_bytes"]["unit"] == "bytes"


def test_no_setting_of_a_job_file_is_left_out() -> None:
    names = set(documents())
    for section, field in JobConfig.model_fields.items():
        settings = getattr(field.annotation, "model_fields", None)
        expected = {section} if settings is None else {f"{section}.{each}" for each in settings}
        if section in ("source", "target"):
            # What only the other end takes is listed there.
            expected = {name for name in expected if name not in names}
            other = {"source": "target", "target": "source"}[section]
            expected = {f"{other}.{name.partition('.')[2]}" for name in expected}
        assert expected - names <= {"source.url", "target.url"}


def test_an_end_lists_what_it_takes(tmp_path: Path) -> None:
    defaults = documents().keys()
    assert {"source.links", "source.anonymous", "target.create", "target.acl"} <= defaults
    assert not defaults & {"target.links", "target.anonymous", "source.create", "source.acl"}
    found = documents("az://account/container", "s3://bucket").keys()
    assert {"source.endpoint", "target.region", "target.storage_class"} <= found
    assert not found & {"source.links", "source.region", "source.request_payer"}
    found = documents(tmp_path, tmp_path / "copy").keys()
    assert {"source.links", "source.provider", "target.retention"} <= found
    assert not found & {"source.endpoint", "target.region", "target.create", "target.ca_bundle"}


def test_a_setting_without_effect_says_so(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('target = "/copy"\n[source]\nurl = "s3://bucket"\nacl = "private"\n')
    assert documents(path)["source.acl"]["origin"] == f"{path}:4; no effect at this end"


def test_an_option_precedes_a_line(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('source = "/data"\ntarget = "/copy"\n[plan]\npart_bytes = "16MiB"\n')
    assert documents(path)["plan.part_bytes"]["origin"] == f"{path}:4"
    found = documents(path, "--part-bytes", "32MiB")["plan.part_bytes"]
    assert (found["value"], found["origin"]) == (32 << 20, "command line")


def test_variables_are_named_and_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    monkeypatch.setenv("NORIA_SOURCE_AZURE_STORAGE_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://storage.example")
    ends = ("az://account/container", "s3://bucket")
    found = documents(*ends)
    assert found["source.credentials"]["origin"] == "NORIA_SOURCE_AZURE_STORAGE_KEY"
    assert found["target.credentials"]["origin"] == "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    assert found["target.endpoint"]["origin"] == "AWS_ENDPOINT_URL_S3"
    assert (found["target.region"]["value"], found["target.region"]["origin"]) == (
        "eu-west-3", "AWS_REGION"
    )  # fmt: skip
    for text in (shown(*ends), shown(*ends, "--json")):
        assert SECRET not in text
        assert "AKIAEXAMPLE" not in text


def test_what_a_url_names_comes_from_there(tmp_path: Path) -> None:
    found = documents("https://account.blob.core.windows.net/container", tmp_path / "x")
    assert found["source.endpoint"]["origin"] == "command line"
    assert found["source.credentials"]["value"] is None


def test_a_job_directory_has_the_settings_of_its_plan(tmp_path: Path) -> None:
    write_source(tmp_path)
    root = tmp_path / "job"
    job.plan(config_of(tmp_path, plan={"chunk_bytes": 1 << 20}), root)
    found = documents(root)
    assert found["plan.chunk_bytes"]["origin"] == f"{root}/job.json"
    assert found["run.streams"]["origin"] == "default"
    assert "has been planned" in shown(root, "--part-bytes", "1MiB", exit_code=2)


def test_what_is_none_of_these_is_said(tmp_path: Path) -> None:
    assert "name a job file" in shown("s3://bucket", exit_code=2)
    assert "cannot read" in shown(tmp_path / "missing.toml", exit_code=2)


def test_nothing_is_asked_of_a_store() -> None:
    ends = {"source": {"url": "s3://a", "anonymous": True}, "target": {"url": "s3://b"}}
    environment = {"AWS_PROFILE": "", "AWS_CONFIG_FILE": "/nonexistent"}
    found = {
        each.name: each for each in settings_in_force(job_config(ends, "job"), {}, environment)
    }
    assert found["source.credentials"].origin == "none: anonymous"
    assert found["target.credentials"].origin == "AWS's chain: shared files, or a role"
    assert found["target.provider"].value == "aws"
