"""Folders of a target that are made, and what is not walked through on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.stores.local.making import make_root

SOMEBODY_ELSE = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user, too")


def test_all_that_is_missing_is_made_and_twice_is_once(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b" / "c"
    assert make_root(root)
    assert root.is_dir()
    assert not make_root(root)


def test_a_link_of_ones_own_is_walked_through(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    make_root(tmp_path / "link" / "new")
    assert (tmp_path / "disk" / "new").is_dir()


@pytest.mark.parametrize("above", [True, False])
def test_a_link_that_leads_nowhere_is_not_made_good(tmp_path: Path, above: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    root = tmp_path / "link"
    if above:
        with pytest.raises(ConfigurationError, match="link is not a folder"):
            make_root(root / "new")
    else:
        assert not make_root(root)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="file is not a folder"):
        make_root(tmp_path / "file" / "new")


@needs_root
def test_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to("victim")
    os.lchown(tmp_path / "link", SOMEBODY_ELSE, SOMEBODY_ELSE)
    with pytest.raises(ConfigurationError, match="link of another user"):
        make_root(tmp_path / "link" / "new")
    assert not os.listdir(tmp_path / "victim")


def test_a_link_that_comes_up_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "victim").mkdir()

    def raced(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        os.symlink(tmp_path / "victim", path, dir_fd=dir_fd)
        raise FileExistsError

    monkeypatch.setattr(os, "mkdir", raced)
    with pytest.raises(ConfigurationError, match="link has just come up"):
        make_root(tmp_path / "new" / "below")
    assert not os.listdir(tmp_path / "victim")


def test_a_folder_that_somebody_makes_meanwhile_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def raced(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(path, dir_fd=dir_fd)
        mkdir(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", raced)
    assert make_root(tmp_path / "new" / "below")
    assert (tmp_path / "new" / "below").is_dir()


def test_who_may_not_make_it_is_told_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", denied)
    with pytest.raises(AccessDenied, match=f"may not make a folder in {tmp_path}: allow"):
        make_root(tmp_path / "new")
