"""Options that stand for settings: before a job file, and never in silence against a plan."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from noria.__main__ import app
from noria.engine import job
from noria.engine.config.jobfile import EndConfig, PlanConfig
from noria.engine.config.reading import job_config, with_settings
from noria.engine.setting_options import SettingOptions
from noria.engine.terminal.console import Shows, exit_code_of, shown
from noria.manifests.errors import ConfigurationError
from tests.support.commands import noria
from tests.support.finished_jobs import config_of, write_source

ENDS = {"source": {"url": "s3://a", "region": "r1"}, "target": {"url": "s3://b"}}


def test_every_option_is_a_setting_and_none_is_given_by_itself() -> None:
    assert not any(SettingOptions().given().values())
    values: dict[str, Any] = {field.name: "8MiB" for field in fields(SettingOptions)}
    everything = SettingOptions(**{**values, "scratch": Path("/scratch")})
    given = everything.given()
    known: dict[str, type[BaseModel]] = {
        "source": EndConfig,
        "target": EndConfig,
        "plan": PlanConfig,
    }
    for section, settings in given.items():
        assert set(settings) <= set(known[section].model_fields)
    assert sum(map(len, given.values())) == len(fields(SettingOptions))


def test_an_option_precedes_the_job_file() -> None:
    config = job_config(ENDS, "job.toml")
    options = SettingOptions(part_bytes="16MiB", source_region="r2", acl="private")
    changed = with_settings(config, options.given(), "noria run")
    assert changed.plan.part_bytes == 16 << 20
    assert (changed.source.region, changed.target.region) == ("r2", None)
    assert changed.target.acl == "private"
    with pytest.raises(ConfigurationError, match="noria run: plan: part_bytes"):
        with_settings(config, SettingOptions(part_bytes="9MiB").given(), "noria run")


def test_a_planned_job_keeps_its_settings(tmp_path: Path) -> None:
    code, _, err = noria("run", tmp_path, "--part-bytes", "16MiB", "--acl", "private")
    assert code == 2
    assert f"--part-bytes, --acl: {tmp_path} has been planned" in err


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (SettingOptions(part_bytes="16MiB"), "plan.part_bytes"),
        (SettingOptions(storage_class="Cool"), "target.storage_class"),
        (SettingOptions(source_profile="other"), "source.profile"),
    ],
)
def test_what_a_plan_would_ignore_is_refused(
    tmp_path: Path, settings: SettingOptions, named: str
) -> None:
    write_source(tmp_path)
    config = config_of(tmp_path)
    root = tmp_path / "job"
    job.plan(config, root)
    with pytest.raises(ConfigurationError, match=f"^{named} is not what {root} was planned with"):
        job.plan(with_settings(config, settings.given(), "noria copy"), root)
    scratch = SettingOptions(scratch=tmp_path / "scratch")
    job.plan(with_settings(config, scratch.given(), "noria copy"), root)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--transfer", "no such option --transfer; did you mean --transfers?"),
        ("--partbytes", "no such option --partbytes; did you mean --part-bytes?"),
        ("--zzz", "no such option --zzz"),
    ],
)
def test_a_misspelt_option_names_the_nearest(
    given: str,
    meant: str,
    as_json: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["copy", "a", "b", given, "1", *(["--json"] if as_json else [])]
    monkeypatch.setattr(sys, "argv", ["noria", *arguments])
    assert exit_code_of(app) == 2
    out, err = capsys.readouterr()
    assert err.rstrip().endswith(meant)
    if as_json:
        assert json.loads(out)["error"] == meant


def test_a_misspelt_command_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["noria", "copi", "a", "b"])
    assert exit_code_of(app) == 2
    assert "Did you mean 'copy'" in capsys.readouterr().err


def test_a_log_file_keeps_what_is_said(tmp_path: Path) -> None:
    log = tmp_path / "kept.log"
    ends = [f"file://{tmp_path}/missing", f"file://{tmp_path}/target"]
    code, _, _ = noria("copy", *ends, "--job", tmp_path / "job", "--log-file", log, "--quiet")
    assert code == 2
    (line,) = log.read_text().splitlines()
    assert line.endswith("INFO noria: checking both ends")
    code, _, err = noria("copy", *ends, "--log-file", tmp_path / "no" / "such.log")
    assert code == 2
    assert f"cannot use {tmp_path}/no" in err


def test_progress_can_be_left_out_and_messages_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_source(tmp_path)
    root = tmp_path / "job"
    job.plan(config_of(tmp_path), root)
    monkeypatch.setattr(job, "advice", lambda _: "advice: do this")
    for progress in (True, False):
        with shown(root, "off", Shows(messages=True, progress=progress, causes=False)) as show:
            show(job.status(root))
        err = capsys.readouterr().err
        assert "advice: do this" in err
        assert ("objects" in err) is progress
