from __future__ import annotations

import contextlib
import os
from dataclasses import replace

import pytest

from noria.manifests.errors import (
    DigestRefused,
    NoriaError,
    SourceChanged,
    TargetConflict,
    UploadLost,
)
from noria.manifests.model import PartRecord
from noria.workers.digest import crc64nvme
from noria.workers.http.client import Send
from tests.conformance.conftest import Place
from tests.conformance.test_reading import FULL, by_lower_name
from tests.support.poured import poured


def bodies(place: Place, count: int = 3) -> list[bytes]:
    """Parts of the smallest size that the store takes, and a shorter last one."""
    size = max(place.ways.smallest_part, 1000)
    return [os.urandom(1000) * (size // 1000 + 1) for _ in range(count - 1)] + [b"last"]


def send(place: Place, name: str, upload_id: str, pieces: list[bytes]) -> list[PartRecord]:
    return [place.part(name, upload_id, n, piece) for n, piece in enumerate(pieces, 1)]


def open_uploads(place: Place) -> set[tuple[str, str]]:
    return {(found.key, found.upload_id) for found in place.store.list_uploads(place.prefix)}


def test_parts_make_an_object(place: Place) -> None:
    pieces = bodies(place)
    whole = b"".join(pieces)
    upload_id = place.create("a", len(whole), FULL)
    parts = [place.part("a", upload_id, number, pieces[number - 1]) for number in (3, 1, 2)]
    parts.sort(key=lambda part: part.number)
    assert place.store.list_parts(place.key("a"), upload_id) == {
        part.number: (part.size, part.etag) for part in parts
    }
    assert open_uploads(place) == {(place.key("a"), upload_id)}
    assert place.store.head(place.key("a")) is None

    written = place.complete("a", upload_id, parts, whole, FULL)
    assert place.read("a") == whole
    head = place.store.head(place.key("a"))
    assert head is not None
    if place.kind != "rclone_s3":  # its HEAD says another ETag than its answer to Complete
        assert head.etag == written.etag
    assert head.txid == "job.0.2.1"
    assert head.attributes.content_type == FULL.content_type
    assert by_lower_name(head.attributes.metadata) == by_lower_name(FULL.metadata)
    assert head.attributes.modified_seconds == FULL.modified_seconds
    assert head.crc64nvme == (crc64nvme(whole) if place.ways.states_whole_crc else None)
    if place.ways.keeps_tags:
        assert place.store.read_tags(place.key("a")) == FULL.tags
    assert open_uploads(place) == set()
    gone = place.store.list_parts(place.key("a"), upload_id)
    assert gone == (None if place.ways.knows_uploads else {})


def test_completing_twice_leaves_one_whole_object(place: Place) -> None:
    pieces = bodies(place, 2)
    whole = b"".join(pieces)
    upload_id = place.create("a", len(whole))
    parts = send(place, "a", upload_id, pieces)
    place.complete("a", upload_id, parts, whole)
    refused = (TargetConflict, UploadLost)
    honours = place.facts.capabilities.if_absent
    with pytest.raises(refused) if honours else contextlib.suppress(*refused):
        place.complete("a", upload_id, parts, whole)
    assert place.read("a") == whole


def test_a_part_that_is_sent_again_replaces_the_first(place: Place) -> None:
    pieces = bodies(place, 2)
    whole = b"".join(pieces)
    upload_id = place.create("a", len(whole))
    place.part("a", upload_id, 1, bytes(len(pieces[0])))
    if not place.ways.replaces_parts:
        with pytest.raises(UploadLost):
            place.part("a", upload_id, 1, pieces[0])
        return
    parts = send(place, "a", upload_id, pieces)
    listed = place.store.list_parts(place.key("a"), upload_id)
    assert listed is not None
    assert sorted(listed) == [1, 2]
    place.complete("a", upload_id, parts, whole)
    assert place.read("a") == whole


def test_an_object_that_came_first_stays(place: Place) -> None:
    pieces = bodies(place, 2)
    upload_id = place.create("a", len(b"".join(pieces)))
    parts = send(place, "a", upload_id, pieces)
    place.overwrite("a", b"came first")
    if place.facts.capabilities.if_absent:
        with pytest.raises(TargetConflict):
            place.complete("a", upload_id, parts, b"".join(pieces))
        place.store.abort_upload(place.key("a"), upload_id)
        assert place.read("a") == b"came first"
        assert open_uploads(place) == set()
    else:
        place.complete("a", upload_id, parts, b"".join(pieces))
        assert place.read("a") == b"".join(pieces)


def test_an_upload_replaces_only_the_object_that_is_meant(place: Place) -> None:
    pieces = bodies(place, 2)
    whole = b"".join(pieces)
    looks = place.store.with_capabilities(replace(place.facts.capabilities, if_match=False))
    for store in (place.store, looks):
        stale = place.overwrite("a", b"first").etag
        meant = place.overwrite("a", b"second").etag
        upload_id = place.create("a", len(whole))
        parts = send(place, "a", upload_id, pieces)
        with pytest.raises(TargetConflict):
            place.complete("a", upload_id, parts, whole, store=store, replaces=stale)
        assert place.read("a") == b"second"
        place.complete("a", upload_id, parts, whole, store=store, replaces=meant)
        assert place.read("a") == whole


def test_an_upload_makes_nothing_where_what_it_is_to_replace_is_gone(place: Place) -> None:
    pieces = bodies(place, 2)
    whole = b"".join(pieces)
    looks = place.store.with_capabilities(replace(place.facts.capabilities, if_match=False))
    for store in (place.store, looks):
        gone = place.overwrite("a", b"first").etag
        place.store.delete_object(place.key("a"))
        upload_id = place.create("a", len(whole))
        parts = send(place, "a", upload_id, pieces)
        with pytest.raises(TargetConflict):
            place.complete("a", upload_id, parts, whole, store=store, replaces=gone)
        assert place.store.head(place.key("a")) is None
        place.store.abort_upload(place.key("a"), upload_id)


def test_an_aborted_upload_is_lost(place: Place) -> None:
    upload_id = place.create("a", 8)
    place.part("a", upload_id, 1, b"part one")
    place.store.abort_upload(place.key("a"), upload_id)
    place.store.abort_upload(place.key("a"), upload_id)
    if place.ways.knows_uploads:
        assert place.store.list_parts(place.key("a"), upload_id) is None
        assert open_uploads(place) == set()
        with pytest.raises(UploadLost):
            place.part("a", upload_id, 1, b"part one")
    assert place.store.head(place.key("a")) is None


def test_an_upload_that_never_was(place: Place) -> None:
    upload_id = place.create("b", 1)
    place.store.abort_upload(place.key("b"), upload_id)
    lost = PartRecord(number=1, size=4, etag="0" * 32, crc64nvme=0, chunks=b"")
    with pytest.raises(UploadLost):
        place.complete("b", upload_id, [lost], b"lost")
    assert place.store.head(place.key("b")) is None


def test_a_damaged_part_is_refused(place: Place) -> None:
    upload_id = place.create("a", 7)
    with pytest.raises(DigestRefused):
        place.store.send_damaged(place.key("a"), place.facts.capabilities.checksum, upload_id)
    assert not place.store.list_parts(place.key("a"), upload_id)
    place.store.abort_upload(place.key("a"), upload_id)


def test_a_wrong_checksum_of_the_whole_is_refused(place: Place) -> None:
    if not place.ways.checks_whole:
        pytest.skip("this store is not told the checksum of the whole")
    pieces = bodies(place, 2)
    upload_id = place.create("a", len(b"".join(pieces)))
    parts = send(place, "a", upload_id, pieces)
    with pytest.raises(DigestRefused):
        place.complete("a", upload_id, parts, b"".join(pieces)[:-1] + b"!")
    assert place.store.head(place.key("a")) is None


def test_a_streamed_part(place: Place) -> None:
    """In slices that fit no frame, as ranges of a source come, and behind it a buffered one."""
    size = max(place.ways.smallest_part, 3_000_000)
    first = os.urandom(1000) * (size // 1000 + 1)
    upload_id = place.create("a", len(first) + 4)
    view = memoryview(first)
    slices = [view[:1], view[1:1_048_577], view[1_048_577:2_000_000], view[2_000_000:]]
    written = place.store.put_part(
        place.key("a"),
        upload_id,
        1,
        poured(slices),
        size=len(first),
        crc64nvme=lambda: crc64nvme(first),
    )
    assert written.crc64nvme == (crc64nvme(first) if place.ways.states_part_crc else None)
    parts = [
        PartRecord(
            number=1, size=len(first), etag=written.etag, crc64nvme=crc64nvme(first), chunks=b""
        ),
        place.part("a", upload_id, 2, b"tail"),
    ]
    place.complete("a", upload_id, parts, first + b"tail")
    assert place.read("a") == first + b"tail"


def test_a_source_that_fails_in_mid_part(place: Place) -> None:
    """The source's own error comes through, no part is left, and the store goes on working."""
    upload_id = place.create("a", 4_000_000)

    def failing(send: Send) -> None:
        send(memoryview(bytes(2_000_000)))
        raise SourceChanged("changed in between", key="source")

    with pytest.raises(SourceChanged):
        place.store.put_part(
            place.key("a"), upload_id, 1, failing, size=4_000_000, crc64nvme=lambda: 0
        )
    assert not place.store.list_parts(place.key("a"), upload_id)
    place.part("a", upload_id, 2, b"fine")
    place.store.abort_upload(place.key("a"), upload_id)


def test_a_stream_of_another_length_is_no_part(place: Place) -> None:
    upload_id = place.create("a", 4_000_000)
    for size in (3_000_000, 5_000_000):
        body = poured([memoryview(bytes(2_000_000))] * 2)
        with pytest.raises((NoriaError, ValueError)):
            place.store.put_part(place.key("a"), upload_id, 1, body, size=size, crc64nvme=lambda: 0)
    assert not place.store.list_parts(place.key("a"), upload_id)
    place.store.abort_upload(place.key("a"), upload_id)


def test_many_parts_and_uploads_take_several_pages(place: Place) -> None:
    store = place.store if place.kind == "local" else place.open(page_keys=2)
    uploads = {place.key(f"u{number}"): place.create(f"u{number}", 10) for number in range(5)}
    parts = {
        number: place.part("u0", uploads[place.key("u0")], number, b"x" * number)
        for number in range(1, 8)
    }
    for number in range(1, 5):
        place.part(f"u{number}", uploads[place.key(f"u{number}")], 1, b"x")
    listed = store.list_parts(place.key("u0"), uploads[place.key("u0")])
    assert listed == {number: (number, part.etag) for number, part in parts.items()}
    found = {found.key: found.upload_id for found in store.list_uploads(place.prefix)}
    assert found == uploads
    for key, upload_id in uploads.items():
        store.abort_upload(key, upload_id)
