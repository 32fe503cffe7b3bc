"""A job directory, or a target, that a listing of the source would find."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from noria.engine.config.reading import job_config
from noria.engine.within_source import refuse_target_in_source
from noria.manifests.errors import ConfigurationError
from tests.support.moves import NORIA


def noria(folder: Path, *arguments: str | Path) -> tuple[int, str]:
    """The exit code of a command, and what it says."""
    ended = subprocess.run(
        [NORIA, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={
            **os.environ,
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
        },
    )
    return ended.returncode, ended.stderr


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    return folder


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_job_directory_in_the_source_is_not_moved(source: Path, more: list[str]) -> None:
    code, said = noria(source, "copy", ".", "../target", *more)
    assert code == 2
    assert "noria: the job directory noria-jobs/data-to-target-" in said
    assert said.endswith(
        "would lie in the source, and be moved with it: name one elsewhere (--job, or directory in "
        "a job file), or leave it out: --exclude '/noria-jobs/**'\n"
    )
    assert os.listdir(source.parent) == ["data"]
    assert os.listdir(source) == ["a"]
    assert noria(source, "copy", ".", "../target", "--job", ".", *more)[0] == 2
    assert os.listdir(source) == ["a"]


def test_it_may_be_left_out_or_lie_beside_the_source(source: Path) -> None:
    copy = ("copy", ".", "../target", "--metrics-address", "off", "-q")
    assert noria(source, *copy, "--exclude", "/noria-jobs/**") == (0, "")
    assert sorted(os.listdir(source.parent / "target")) == ["a"]
    (source / "noria-jobs").rename(source.parent / "noria-jobs")
    assert noria(source, *copy, "--job", "../data-job") == (0, "")
    assert sorted(os.listdir(source.parent / "target")) == ["a"]


def test_a_pass_does_not_move_what_the_last_one_wrote(source: Path, tmp_path: Path) -> None:
    copy = ("copy", "./data", "./data/cop[y]", "--metrics-address", "off", "-q", "--job")
    assert noria(tmp_path, *copy, "once") == (0, "")
    code, said = noria(tmp_path, "sync", "once", "-q")
    assert code == 2
    assert "the target lies in the source" in said
    left_out = r"--exclude '/cop\[y\]/**'"
    assert said.endswith(f"elsewhere or with {left_out}\n")
    ends = {"source": {"url": f"file://{source}"}, "target": {"url": f"file://{source}/cop[y]"}}
    refuse_target_in_source(job_config({**ends, "filter": {"exclude": [r"/cop\[y\]/**"]}}, ""))
    with pytest.raises(ConfigurationError):
        refuse_target_in_source(job_config({**ends, "filter": {"exclude": ["/copy/**"]}}, ""))


@pytest.mark.parametrize(
    ("source", "target", "refused"),
    [
        ("s3://bucket/a", "s3://bucket/a/b", True),
        ("s3://bucket", "s3://bucket/b", True),
        ("s3://bucket/a", "s3://bucket/ab", False),
        ("s3://bucket/a/b", "s3://bucket/a", False),
        ("s3://bucket/a", "s3://bucket/a", False),
        ("az://account/cont", "az://other/cont/a", False),
    ],
)
def test_which_target_lies_in_the_source(source: str, target: str, refused: bool) -> None:
    config = job_config({"source": {"url": source}, "target": {"url": target}}, "")
    with pytest.raises(ConfigurationError) if refused else nullcontext():
        refuse_target_in_source(config)
