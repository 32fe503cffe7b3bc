"""A job directory where none can be is refused before a request goes to either end."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from noria.engine import first_look, job
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.directory import JobDirectory
from tests.support.finished_jobs import config_of, write_source


def refuse(*given: Any, **named: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


@pytest.mark.parametrize(
    ("module", "verb", "named"),
    [(os, "rename", "renames are safe"), (fcntl, "flock", "flock"), (os, "fsync", "files")],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_file_system_that_cannot_hold_a_job_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, verb: str, named: str, there: bool
) -> None:
    """As on Azure Files over SMB, or blobfuse."""
    write_source(tmp_path)
    root = tmp_path / "jobs" / "job"
    if there:
        root.mkdir(parents=True)
    monkeypatch.setattr(module, verb, refuse)
    monkeypatch.setattr(first_look, "open_end", lambda *given, **named: pytest.fail("a request"))
    with pytest.raises(ConfigurationError, match=named) as refused:
        job.plan(config_of(tmp_path), root)
    assert "name one on another file system" in refused.value.message
    assert [path for path in tmp_path.rglob("*") if "noria" in path.name] == []


def test_a_folder_that_is_put_in_the_place_of_another_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a folder is but the beginning of the names of objects."""
    rename = os.rename

    def replace(source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        rename(source, target)

    monkeypatch.setattr(os, "rename", replace)
    with pytest.raises(ConfigurationError, match="one replaces another"):
        JobDirectory.check_place(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_place_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    JobDirectory.check_place(tmp_path)


def test_a_place_that_will_do_is_left_as_it_was(tmp_path: Path) -> None:
    JobDirectory.check_place(tmp_path / "deep" / "job")
    assert list(tmp_path.iterdir()) == []


def test_a_key_list_may_be_named_through_a_link(tmp_path: Path) -> None:
    """Stores follow no links, but this path is one that a person wrote."""
    write_source(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "keys").write_text("a\nz\n")
    (tmp_path / "lists").symlink_to("real")
    inventory = {"kind": "keys", "url": f"file://{tmp_path / 'lists' / 'keys'}"}
    planned = job.plan(config_of(tmp_path, inventory=inventory), tmp_path / "job")
    assert planned.manifest.objects == 2


def test_what_is_kept_of_a_listing_goes_with_a_plan_that_is_frozen_already(tmp_path: Path) -> None:
    """The plan was killed after its freeze, before it could remove the listing."""
    write_source(tmp_path)
    job.plan(config_of(tmp_path), tmp_path / "job")
    left = tmp_path / "job" / ".listing"
    left.mkdir()
    (left / "rows-0.arrow").write_bytes(b"rows")
    job.plan(config_of(tmp_path), tmp_path / "job")
    assert not left.exists()
