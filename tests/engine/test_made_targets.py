"""A target that is missing: whose it is once it is there, and what a refusal says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from noria.engine import made_targets
from noria.engine.config.jobfile import EndConfig
from noria.engine.config.reading import job_config
from noria.engine.made_targets import make_missing, may_be_made
from noria.manifests.errors import AccessDenied, ConfigurationError, ContainerMissing, NoriaError

MISSING = ContainerMissing("there is none")
DENIED = AccessDenied("403")


class ContainersOfOthers:
    """A store that answers a look in turn, and says what became of the making."""

    def __init__(self, looks: Sequence[NoriaError | None], made: bool | NoriaError = True) -> None:
        self.looks = list(looks)
        self.made = made
        self.closed = False

    def check_access(self, prefix: str = "") -> None:
        error = self.looks.pop(0)
        if error is not None:
            raise error

    def make_container(self) -> bool:
        if isinstance(self.made, NoriaError):
            raise self.made
        return self.made

    def close(self) -> None:
        self.closed = True


def making(store: ContainersOfOthers, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(made_targets, "open_end", lambda _: store)
    try:
        make_missing(EndConfig(url="s3://bucket/data", create=True), said.append)
    finally:
        assert store.closed
        assert not store.looks
    return said


def test_what_is_missing_is_made_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert making(ContainersOfOthers([MISSING]), monkeypatch) == [
        "made s3://bucket/data, which was missing"
    ]


def test_what_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = ContainersOfOthers([None], made=DENIED)
    assert making(untouched, monkeypatch) == []


def test_who_comes_second_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert making(ContainersOfOthers([MISSING, None], made=False), monkeypatch) == []


def test_a_name_of_somebody_else_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="the name is somebody else's already"):
        making(ContainersOfOthers([MISSING, DENIED], made=False), monkeypatch)
    with pytest.raises(ConfigurationError, match="if it is not yours, choose another name"):
        making(ContainersOfOthers([DENIED]), monkeypatch)


def test_a_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="grant s3:CreateBucket on it, or have it made"):
        making(ContainersOfOthers([MISSING], made=DENIED), monkeypatch)


def test_only_what_may_be_missing_is_looked_for(tmp_path: Path) -> None:
    assert not may_be_made(EndConfig(url="s3://bucket"))
    assert may_be_made(EndConfig(url="s3://bucket", create=True))
    assert not may_be_made(EndConfig(url=tmp_path.as_uri(), create=True))
    assert may_be_made(EndConfig(url=(tmp_path / "new").as_uri()))


def test_a_source_is_not_made() -> None:
    ends = {"source": {"url": "s3://a", "create": True}, "target": {"url": "s3://b"}}
    with pytest.raises(ConfigurationError, match="create is for a target"):
        job_config(ends, "job")
