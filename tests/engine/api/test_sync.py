"""Passes from Python, between two folders."""

from __future__ import annotations

from pathlib import Path

import pytest

import noria


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / name).write_text(name)
    ends = {"source": source, "target": tmp_path / "target"}
    config = noria.job_config({role: {"url": f"file://{place}"} for role, place in ends.items()})
    noria.plan(config, tmp_path / "job")
    assert noria.run(tmp_path / "job").exit_code == 0
    return tmp_path


def test_a_pass_moves_what_changed_and_says_what_it_found(moved: Path) -> None:
    (moved / "source" / "a").write_text("changed")
    (moved / "source" / "d").write_text("new")
    (moved / "source" / "b").unlink()
    report = noria.sync(moved / "job", deletions="mirror", deletions_any_number=True)
    assert (report.number, report.exit_code) == (2, 0)
    assert report.delta is not None
    found = {name: count for name, count in report.delta.objects.items() if count}
    assert found == {"new": 1, "size": 1, "gone": 1, "unchanged": 1}
    target = {each.name: each.read_text() for each in (moved / "target").iterdir()}
    assert target == {"a": "changed", "c": "c", "d": "new"}


def test_a_directory_stands_for_its_latest_pass(moved: Path) -> None:
    (moved / "source" / "a").write_text("changed")
    noria.sync(moved / "job")
    assert noria.status(moved / "job").objects_total == 1
    assert noria.reconcile(moved / "job").landed == 3
    assert noria.verify(moved / "job").reread == 3
    assert list(noria.failures(moved / "job")) == []


def test_too_many_deletions_are_refused(moved: Path) -> None:
    (moved / "source" / "a").unlink()
    with pytest.raises(noria.InventoryError, match="1 of 3 objects"):
        noria.sync(moved / "job", deletions="mirror")
    assert (moved / "target" / "a").exists()


def test_two_states_are_kept(moved: Path) -> None:
    for number in range(3):
        (moved / "source" / "a").write_text(f"changed {number}")
        assert noria.sync(moved / "job").exit_code == 0
    states = sorted(each.name for each in (moved / "job" / "state").iterdir() if each.is_dir())
    assert states == ["000003", "000004"]
