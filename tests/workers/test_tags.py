"""How many requests it takes to miss no tag, of sources that announce them, or not, or refuse."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

import pytest

from noria.manifests.errors import AccessDenied, SourceUnreadable
from noria.manifests.model import AttributeChange, Treatment
from noria.workers.runtime.greenlets import FiberPool, pause
from noria.workers.stores.paced import PacedStore
from noria.workers.stores.protocol import ObjectHead
from noria.workers.tags import SourceTags
from tests.support.processes import wait_until

UNREADABLE = AttributeChange.TAGS_UNREADABLE


@dataclass
class Tagged:
    """A source that says nothing but its objects' tags."""

    objects: Mapping[str, Mapping[str, str]]
    provider: str = "s3"
    refuses: bool = False
    refuses_all: bool = False
    asked: list[str] = field(default_factory=list)
    first_answer: threading.Event | None = None
    """The first answer does not come before this is set."""

    def read_tags(self, name: str, *, version_id: str | None = None) -> Mapping[str, str]:
        self.asked.append(name)
        if self.first_answer is not None and len(self.asked) == 1:
            assert self.first_answer.wait(30)
        if self.refuses:
            raise AccessDenied("no") if len(self.asked) % 2 else SourceUnreadable("no")
        return self.objects[name]

    def head(self, name: str) -> ObjectHead:
        if self.refuses_all:
            raise AccessDenied("no")
        return ObjectHead(size=1, etag="e")


def read(
    source: Tagged,
    tags: SourceTags,
    name: str,
    count: int | None,
    treatment: Treatment = Treatment.REFUSE,
    announces: bool = False,
) -> tuple[Mapping[str, str], AttributeChange | None]:
    head = ObjectHead(size=1, etag="e", tag_count=count, announces_tags=announces)
    return tags.read(cast("PacedStore", source), name, head, treatment, version_id=None)


def test_a_server_that_never_announces_tags_is_asked_for_each_object() -> None:
    source, tags = Tagged({"a": {}, "b": {"k": "v"}}), SourceTags()
    for name in ("a", "b", "a", "b"):
        assert read(source, tags, name, None) == (source.objects[name], None)
    assert source.asked == ["a", "b", "a", "b"]


@pytest.mark.parametrize("way", ["provider", "server", "count"])
def test_silence_means_none_once_it_is_known_to(way: str) -> None:
    source = Tagged({"a": {}, "b": {"k": "v"}}, "aws" if way == "provider" else "s3")
    tags = SourceTags()
    read(source, tags, "b" if way == "count" else "a", 1 if way == "count" else None)
    for _ in range(9):
        assert read(source, tags, "a", None, announces=way == "server") == ({}, None)
    assert len(source.asked) == 1


def test_who_may_not_read_tags_is_told_so_for_every_object() -> None:
    source, tags = Tagged({}, "aws", refuses=True), SourceTags()
    for _ in range(9):
        assert read(source, tags, "a", None) == ({}, UNREADABLE)
    assert len(source.asked) == 1


def test_credentials_that_are_refused_altogether_are_not_about_tags() -> None:
    source, tags = Tagged({}, "aws", refuses=True, refuses_all=True), SourceTags()
    with pytest.raises(AccessDenied):
        read(source, tags, "a", None)


def test_tags_that_are_there_and_may_not_be_read_are_lost_by_policy_alone() -> None:
    source, tags = Tagged({}, refuses=True), SourceTags()
    with pytest.raises(AccessDenied):
        read(source, tags, "a", 2)
    assert read(source, tags, "a", 2, Treatment.LEAVE) == ({}, UNREADABLE)
    assert read(source, tags, "a", 0) == ({}, None)


@pytest.mark.parametrize("refuses_all", [False, True])
def test_of_objects_that_begin_together_one_asks_for_all(refuses_all: bool) -> None:
    """Unless its own request fails: then each asks for itself."""
    gate = threading.Event()
    source = Tagged({"a": {}}, "aws", refuses_all, refuses_all, first_answer=gate)
    tags = SourceTags()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(read, source, tags, "a", None) for _ in range(8)]
        wait_until(lambda: len(tags._waiting or ()) == 7, "seven wait for the first")
        assert len(source.asked) == 1
        gate.set()
    if not refuses_all:
        assert [each.result() for each in answers] == [({}, None)] * 8
        assert len(source.asked) == 1
    else:
        errors = [each.exception() for each in answers]
        assert any(isinstance(error, AccessDenied) for error in errors)
        assert len(source.asked) > 1


def test_fibers_wait_for_each_other_too() -> None:
    source, tags = Tagged({"a": {}}, "azure"), SourceTags()
    pool, found = FiberPool(4), list[tuple[Mapping[str, str], AttributeChange | None]]()
    asked = source.read_tags

    def slowly(name: str, *, version_id: str | None = None) -> Mapping[str, str]:
        pause(0.05, threading.Event())  # the other fibers run meanwhile
        return asked(name, version_id=version_id)

    source.read_tags = slowly  # type: ignore[method-assign]  # the same, and slower
    for _ in range(12):
        pool.submit(lambda: found.append(read(source, tags, "a", None)))
    pool.close()
    assert found == [({}, None)] * 12
    assert len(source.asked) == 1
