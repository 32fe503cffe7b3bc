"""If-Match beside another writer: what was written meanwhile is never lost where the probe says so.

The other one asks for no condition, so that its write always succeeds: before ours, which then has
to be refused, or after it. Either way it is what stands there at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from noria.manifests.errors import TargetConflict, UploadLost
from tests.conformance.conftest import Place

ROUNDS = 40
UPLOADS = 10


@pytest.fixture(autouse=True)
def _needs_conditions(place: Place) -> None:
    if not place.facts.capabilities.if_match:
        pytest.skip("it looks before it writes, which is known not to be enough")


def run_beside(place: Place, name: str, change: Callable[[], object]) -> None:
    """Let a change and another writer's PUT run at once, and see that what that wrote stands.

    Which of them begins changes with each name.
    """

    def try_to_change() -> None:
        with contextlib.suppress(TargetConflict, UploadLost):
            change()

    calls: list[Callable[[], object]] = [
        try_to_change,
        partial(place.overwrite, name, b"others wrote this"),
    ]
    if name.endswith(("1", "3", "5", "7", "9")):
        calls.reverse()
    with ThreadPoolExecutor(2) as threads:
        for ended in [threads.submit(call) for call in calls]:
            ended.result()
    assert place.read(name) == b"others wrote this"


def test_a_replacement_never_loses_what_others_write(place: Place) -> None:
    for n in range(ROUNDS):
        left = place.overwrite(f"put-{n}", b"left").etag
        run_beside(place, f"put-{n}", partial(place.put, f"put-{n}", b"ours", replaces=left))


def test_a_deletion_never_loses_what_others_write(place: Place) -> None:
    if not place.facts.capabilities.if_match_delete:
        pytest.skip("it looks before it deletes, which is known not to be enough")
    for n in range(ROUNDS):
        name = f"delete-{n}"
        left = place.overwrite(name, b"left").etag
        run_beside(place, name, partial(place.store.delete_object, place.key(name), etag=left))


def test_a_completed_upload_never_loses_what_others_write(place: Place) -> None:
    if not place.facts.capabilities.if_match_complete:
        pytest.skip("it looks before it completes an upload, which is known not to be enough")
    body = b"p" * place.ways.smallest_part
    for n in range(UPLOADS):
        name = f"upload-{n}"
        left = place.overwrite(name, b"left").etag
        upload_id = place.create(name, len(body))
        parts = [place.part(name, upload_id, 1, body)]
        run_beside(
            place, name, partial(place.complete, name, upload_id, parts, body, replaces=left)
        )
