"""`noria init`: the file that it writes is a job file, and it takes and writes no secret."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from noria.__main__ import app
from noria.engine import init_command
from noria.engine.config.jobfile import EndConfig, PlanConfig
from noria.engine.config.new_job_file import new_job_file, setting_text
from noria.engine.config.reading import read_job_file

ENDS = ("--source", "az://account/container/data", "--target", "s3://bucket/data")


def init(*arguments: str | Path, answers: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(
        app, ["init", *map(str, arguments)], input=answers, catch_exceptions=False
    )
    return result.exit_code, result.stdout, result.stderr


def asking(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a terminal."""

    class AskingTerminal:
        def isatty(self) -> bool:
            return True

    class AskingSystem:
        stdin = AskingTerminal()

    monkeypatch.setattr(init_command, "sys", AskingSystem)


def test_what_it_writes_is_a_job_file(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    options = ("--target-region", "fr-par", "--exclude", "*.tmp", "--exclude", "/old/**")
    code, out, err = init(path, *ENDS, *options, "--create", "--yes")
    assert code == 0, err
    config = read_job_file(path)
    assert (config.source.url, config.target.url) == (ENDS[1], ENDS[3])
    assert (config.target.region, config.target.create) == ("fr-par", True)
    assert config.filter.asked == {"exclude": ["*.tmp", "/old/**"]}
    assert "AZURE_STORAGE_KEY" in out
    assert "AWS_ACCESS_KEY_ID" in out
    assert f"noria plan {path}" in out


def test_its_comments_are_the_texts_of_the_settings_and_its_defaults_are_theirs(
    tmp_path: Path,
) -> None:
    text = new_job_file({"source": {"url": "/a"}, "target": {"url": "/b"}})
    assert f"# {setting_text(EndConfig, 'region') or 'region'}" in text
    assert setting_text(PlanConfig, "part_bytes") in " ".join(text.replace("# ", "").split("\n"))
    assert "None" not in text
    # With the # away from each default, it is a job file that asks for nothing else.
    lines = [
        line.removeprefix("# ") if " = " in line and not line.endswith("...") else line
        for line in text.splitlines()
    ]
    path = tmp_path / "job.toml"
    path.write_text("\n".join(lines))
    config = read_job_file(path)
    path.write_text(text)
    assert read_job_file(path) == config


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text("mine")
    code, _, err = init(path, *ENDS, "--yes")
    assert (code, path.read_text()) == (2, "mine")
    assert "is there already" in err


@pytest.mark.parametrize("arguments", [(), ("--source", "/a"), ("--source", "/a", "--yes")])
def test_without_a_terminal_it_is_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "job.toml"
    code, _, err = init(path, *arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert "--source" in line
    assert not path.exists()


def test_what_is_wrong_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch)
    path = tmp_path / "job.toml"
    answers = "az://account\naz://account/container\ns3://bucket\nhttps://s3.example\n\n*.tmp\ny\n"
    code, _, err = init(path, answers=answers)
    assert code == 0, err
    values = tomllib.loads(path.read_text())
    assert values["source"] == {"url": "az://account/container"}
    expected = {"url": "s3://bucket", "endpoint": "https://s3.example", "create": True}
    assert values["target"] == expected
    assert values["filter"] == {"exclude": ["*.tmp"]}
    for word in ("secret", "key", "password"):
        assert word not in err.lower()


def test_a_pattern_with_a_space_is_one_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(monkeypatch)
    path = tmp_path / "job.toml"
    answers = "az://account/container\ns3://bucket\n\n\n*.tmp '/old data/**' a\\*#b\n\n"
    code, _, err = init(path, answers=answers)
    assert code == 0, err
    values = tomllib.loads(path.read_text())
    assert values["filter"] == {"exclude": ["*.tmp", "/old data/**", "a\\*#b"]}


def test_who_stops_answering_gets_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking(monkeypatch)
    path = tmp_path / "job.toml"
    code, _, err = init(path, answers="az://account/container\n")
    assert code == 3
    assert err.endswith("noria: stopped\n")
    assert not path.exists()
