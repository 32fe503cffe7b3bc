"""Job files of any content, and what they become: a plan, or one line that says what to correct."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noria.engine.config.jobfile import JobConfig
from noria.engine.config.quantities import parse_size
from noria.engine.config.reading import job_config, read_job_file
from noria.manifests.errors import ConfigurationError
from tests.support.commands import refusal_of
from tests.support.finished_jobs import config_of, contents, write_source
from tests.support.fuzzing import ODD_VALUES, SECRET, damaged, examples, refused

SETTINGS = sorted(
    f"{section}.{name}"
    for section in ("source", "target", "inventory", "filter", "plan", "run")
    for name in config_of(Path("/")).model_dump()[section]
)
VALUES = ODD_VALUES | st.sampled_from(
    [
        math.inf,
        math.nan,
        "1e400",
        "9" * 400 + "TiB",
        "8MiB",
        "-8MiB",
        "az://a..b/c",
        "az://a/c\n",
        "s3://" + "b" * 300,
        "s3://b:x/p",
        "s3://[::1/x",
        "file:///a%00b",
        "file:///a/../..",
        f"https://user:{SECRET}@host",
        f"https://{SECRET}＠host",
        "https://host:99999",
        "https://[::1",
        "https://" + "a" * 70 + ".example.org",
        "listing",
        "keys",
        "escape",
        "off",
        "1h30m",
        "9" * 400 + "y",
        "0001-01-01",
        "9999-12-31T23:59:59-14:00",
        ["{{(}}", "a***"],
        ["a=b"],
    ]
)


def toml(value: Any) -> str:
    """A value as TOML writes it; what TOML has no word for comes out as something it refuses."""
    match value:
        case bool() | None:
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False)
        case float() | int():
            return repr(value)
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
    return "{" + ", ".join(f"{toml(key)} = {toml(each)}" for key, each in value.items()) + "}"


def job_text(folder: Path, setting: str, value: Any) -> str:
    config: dict[str, Any] = config_of(folder).model_dump(mode="json")
    section, _, name = setting.partition(".")
    config[section][name] = value
    lines = []
    for title, values in config.items():
        if isinstance(values, dict):
            lines.append(f"[{title}]")
            lines += [f"{key} = {toml(each)}" for key, each in values.items() if each is not None]
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode(errors="surrogatepass"))


@examples(150)
@given(setting=st.sampled_from(SETTINGS), value=VALUES)
@example(setting="plan.chunk_bytes", value="48MiB")
@example(setting="plan.part_bytes", value="8MiB\nrest")
@example(setting="plan.shard_bytes", value=math.inf)
@example(setting="plan.part_bytes", value=True)
@example(setting="run.journal_seconds", value=math.inf)
@example(setting="source.endpoint", value=f"https://{SECRET}＠host")
@example(setting="source.url", value="file:///a%00b")
@example(setting="source.provider", value=f"https://user:{SECRET}@host")
def test_any_value_of_any_setting(tmp_path: Path, setting: str, value: Any) -> None:
    write(tmp_path / "job.toml", job_text(tmp_path, setting, value))
    found: list[JobConfig] = []
    error = refused(lambda: found.append(read_job_file(tmp_path / "job.toml")))
    assert isinstance(error, ConfigurationError | None)
    if error is None:
        # What was taken can be written to job.json, and means the same when it is read again.
        kept = json.dumps(found[0].model_dump(mode="json"), allow_nan=False)
        assert JobConfig.model_validate(json.loads(kept)) == found[0]


@examples(150)
@given(st.data())
def test_job_files_that_are_damaged(tmp_path: Path, data: st.DataObject) -> None:
    text = job_text(tmp_path, "run.workers", 1).encode()
    (tmp_path / "job.toml").write_bytes(data.draw(damaged(text)))
    assert isinstance(
        refused(lambda: read_job_file(tmp_path / "job.toml")), ConfigurationError | None
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b'target = "s3://b"\n', "source"),
        (b"\xff\xfe", "UTF-8"),
        (b"\0", "TOML"),
        (b"a = " + b"[" * 20_000, "TOML"),
        (b"a = " + b"9" * 5_000, "TOML"),
        (b"a = 1\na = 2\n", "overwrite"),
        (b"[run]\n[run]\n", "TOML"),
        (b'source = "file:///a"\n[source]\nurl = "file:///b"\n', "TOML"),
        (b'source = 5\ntarget = "s3://b"\n', "source"),
        (b'"a\\nb" = 1\nsource = "file:///a"\ntarget = "s3://b"\n', "no such setting"),
        (b'source = "az://a/c?sv=1&sig=secret"\ntarget = "s3://b"\n', "AZURE_STORAGE_SAS_TOKEN"),
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_what_is_no_job_file(tmp_path: Path, text: bytes, word: str) -> None:
    (tmp_path / "job.toml").write_bytes(text)
    error = refused(lambda: read_job_file(tmp_path / "job.toml"))
    assert isinstance(error, ConfigurationError)
    assert word in error.message
    line = refusal_of("run", tmp_path / "job.toml", job=tmp_path / "job")
    assert line is not None
    assert word in line
    assert not (tmp_path / "job").exists()


def test_a_folder_instead_of_a_job_file(tmp_path: Path) -> None:
    line = refusal_of("plan", tmp_path, job=tmp_path / "job")
    assert line == f"noria: cannot read {tmp_path}: Is a directory"


def test_a_job_file_whose_directory_would_be_itself(tmp_path: Path) -> None:
    write_source(tmp_path)
    write(tmp_path / "job", job_text(tmp_path, "run.workers", 1))
    line = refusal_of("plan", tmp_path / "job", job=tmp_path / "job")
    assert line is not None
    assert "job.toml" in line


@examples(60)
@given(setting=st.sampled_from(SETTINGS), value=VALUES)
@example(setting="plan.chunk_bytes", value=48 << 20)
@example(setting="plan.segment_bytes", value=1 << 60)
@example(setting="inventory.kind", value="keys")
@example(setting="filter.max_size", value=math.inf)
@example(setting="filter.min_age", value="0001-01-01")
def test_a_plan_is_whole_or_not_begun(
    tmp_path_factory: pytest.TempPathFactory, setting: str, value: Any
) -> None:
    folder = tmp_path_factory.mktemp("plan")
    write_source(folder)
    # Elsewhere are folders of this machine: what lies there is not for this test to plan.
    if setting in ("source.url", "target.url", "inventory.url") and str(value).startswith("file"):
        return
    write(folder / "job.toml", job_text(folder, setting, value))
    line = refusal_of("plan", folder / "job.toml", job=folder / "job")
    if line is None:
        assert {"job.json", "manifest/manifest.json"} <= set(contents(folder / "job"))
        assert refusal_of("status", folder / "job", job=folder / "job") is None
    else:
        assert not (folder / "job").exists()
    assert not any((folder / "target").iterdir()), "nothing is left at the target"
    shutil.rmtree(folder)


@examples(150)
@given(ODD_VALUES | st.floats())
def test_any_value_as_a_size(value: Any) -> None:
    try:
        size = parse_size(value)
    except ValueError:
        return
    assert type(size) is int


@examples(100)
@given(st.dictionaries(st.sampled_from(["source", "target", "plan", "run"]), ODD_VALUES))
def test_any_document(values: dict[str, Any]) -> None:
    assert isinstance(refused(lambda: job_config(values, "here")), ConfigurationError)
