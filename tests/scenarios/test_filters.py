"""Jobs that leave out what their user does not want: what moves, and what is said of the rest."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from noria.engine import job
from noria.engine.config.reading import job_config
from tests.support.moves import NORIA, Move, plain

FILES = {"2024/a.txt": 5, "2024/deep/b.tmp": 6, "2025/c.txt": 7, "top.jpg": 2000}


def folders(root: Path) -> tuple[Path, Path]:
    source, target = root / "source", root / "target"
    for name, size in FILES.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    target.mkdir()
    return source, target


def arrived(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def noria(folder: Path, *arguments: str | Path, exit_code: int = 0) -> tuple[dict[str, Any], str]:
    """The document that the command prints, and what it says beside it."""
    ended = subprocess.run(
        [NORIA, *arguments, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache")},
    )
    assert ended.returncode == exit_code, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document, ended.stderr


def test_what_is_left_out_is_counted_and_another_filter_is_another_job(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    copy = ("copy", source, target, "--metrics-address", "off")
    done, _ = noria(tmp_path, *copy, "--include", "/2024/**", "--max-size", "1K")
    left_out = {"filtered_size": 1, "filtered_name": 1}
    assert (done["outcomes"], done["passed_over"]) == ({"TRANSFERRED": 2}, left_out)
    assert arrived(target) == {"2024/a.txt", "2024/deep/b.tmp"}
    shown, _ = noria(tmp_path, "status", done["directory"])
    assert shown["passed_over"] == left_out
    facts = json.loads((tmp_path / done["directory"] / "manifest/manifest.json").read_text())
    assert facts["inventory"]["filtered_size"] == 1
    assert facts["inventory"]["rows"] == len(FILES)
    # The same command resumes; another filter in that directory is refused, and has its own.
    again, _ = noria(tmp_path, *copy, "--include", "/2024/**", "--max-size", "1K")
    assert again["finished_before"]
    here = ("--job", done["directory"])
    _, said = noria(tmp_path, *copy, "--include", "/2025/**", *here, exit_code=2)
    assert "its filter is another one" in said
    _, said = noria(tmp_path, *copy, *here, exit_code=2)
    assert "its filter is another one" in said
    other, _ = noria(tmp_path, *copy, "--include", "/2025/**")
    assert other["directory"] != done["directory"]
    # What another job has written is extra, and allowed in a target that was not empty.
    assert (other["outcomes"], other["reconciled"]) == ({"TRANSFERRED": 1}, True)
    assert other["differences"] == {"extra": 2}


def test_rules_come_from_standard_input(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    ended = subprocess.run(
        [NORIA, "copy", source, target, "--filter-from", "-", "--metrics-address", "off"],
        input=b"# comment\n+ *.txt\n- *\n",
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert arrived(target) == {"2024/a.txt", "2025/c.txt"}


def test_include_and_exclude_together_are_those_of_rclone_and_it_is_said(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    command: list[str | Path] = [NORIA, "copy", source, target, "--metrics-address", "off"]
    command += ["--include", "/2024/**", "--exclude", "*.tmp", "--job", tmp_path / "job"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "what both match is moved" in ended.stderr
    assert "2 left out by name" in ended.stdout
    assert arrived(target) == {"2024/a.txt", "2024/deep/b.tmp"}


def test_a_job_file_and_the_options_of_plan(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    (tmp_path / "rules.txt").write_text("# what is not wanted\n- *.tmp\n+ /2024/**\n- *\n")
    (tmp_path / "move.toml").write_text(
        f'source = "{source}"\ntarget = "{target}"\n'
        '[filter]\nrules_from = "rules.txt"\n[plan]\nrepresentable = "all"\n'
        '[run]\nmetrics_address = "off"\n'
    )
    planned, _ = noria(tmp_path, "plan", "move.toml", "--exclude", "/2025/")
    assert planned["objects_to_move"] == 1
    assert planned["passed_over"] == {"filtered_name": 3}
    _, said = noria(tmp_path, "run", "move.toml", exit_code=2)
    assert "its filter is another one" in said
    done, _ = noria(tmp_path, "run", "move")
    assert (done["outcomes"], done["reconciled"]) == ({"TRANSFERRED": 1}, True)
    assert arrived(target) == {"2024/a.txt"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--include", "a[b"), "'a[b' is not a pattern"),
        (("--tag", "a=b"), "filter.tags cannot be decided"),
        (("--min-size", "10M"), "none of 4 entries would be moved"),
        (("--max-age", "1d", "--min-age", "2d"), "min_age 2d is more than max_age 1d"),
        (("--filter-from", "nowhere"), "cannot read nowhere"),
    ],
)
def test_what_is_refused_leaves_nothing(
    options: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    source, target = folders(tmp_path)
    _, line = noria(tmp_path, "copy", source, target, *options, "--job", "job", exit_code=2)
    assert said in line
    assert not (tmp_path / "job/job.json").exists()
    assert arrived(target) == set()


def test_one_object_is_not_filtered(tmp_path: Path) -> None:
    source, target = folders(tmp_path)
    one = source / "top.jpg"
    _, said = noria(tmp_path, "copy", one, target, "--include", "*.jpg", exit_code=2)
    assert "the source names one object" in said


def test_ages_are_of_the_moment_at_which_the_job_was_asked_for(tmp_path: Path) -> None:
    """A plan that was cut short is made again with the moment that is noted."""
    source, target = folders(tmp_path)
    for name, days in (("2024/a.txt", 40), ("2025/c.txt", 20), ("top.jpg", 0)):
        then = (source / name).stat().st_mtime - days * 86_400
        os.utime(source / name, (then, then))
    ends = {"source": {"url": str(source)}, "target": {"url": str(target)}}
    config = job_config({**ends, "filter": {"max_age": "30d", "min_age": "1d"}}, "test")
    root = tmp_path / "job"
    planned = job.plan(config, root)
    assert planned.manifest.objects == 1
    assert planned.manifest.passed_over == {"filtered_age": 3}
    noted = json.loads((root / "job.json").read_text())
    assert len(noted["modified_between"]) == 2
    first = planned.manifest.digest
    (root / "manifest").rename(tmp_path / "lost")
    assert job.plan(config, root).manifest.digest == first
    (root / "manifest").rename(tmp_path / "lost too")
    noted["modified_between"] = [None, "2001-01-01 00:00:00+00:00"]
    (root / "job.json").write_text(json.dumps(noted))
    with pytest.raises(Exception, match="none of 4 entries"):
        job.plan(config, root)


def test_a_job_without_a_filter_is_what_it_was(tmp_path: Path) -> None:
    """Directories of earlier versions know of no filter."""
    source, target = folders(tmp_path)
    config = job_config({"source": {"url": str(source)}, "target": {"url": str(target)}}, "test")
    root = tmp_path / "job"
    digest = job.plan(config, root).manifest.digest
    stored = json.loads((root / "job.json").read_text())
    assert "filter" not in stored["asked"]
    assert "modified_between" not in stored
    del stored["config"]["filter"]
    (root / "job.json").write_text(json.dumps(stored))
    (root / "manifest").rename(tmp_path / "lost")
    assert job.plan(config, root).manifest.digest == digest


def test_types_tags_and_tiers_of_a_listing_in_azure(make_move: Callable[..., Move]) -> None:
    specs = [
        replace(plain("keep/a", 10), content_type="text/csv", tags={"project": "x", "n": "1"}),
        replace(plain("keep/b", 11), content_type="text/csv;charset=utf-8", tags={"project": "x"}),
        replace(plain("other/c", 12), content_type="text/csv", tags={"project": "y"}),
        replace(plain("other/d", 13), content_type="image/png", tags={"project": "x"}),
    ]
    move = make_move(specs)
    wanted = ("--type", "text/*", "--tag", "project=x", "--tier", "hot", "--exclude-tag", "n")
    done = move.copy(*wanted)
    assert done["outcomes"] == {"TRANSFERRED": 1}
    assert done["passed_over"] == {"filtered_type": 1, "filtered_tag": 2}
    assert done["reconciled"]
