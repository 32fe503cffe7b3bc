from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from noria.manifests.errors import ShortBody, SourceChanged, SourceMissing, TargetRefused
from noria.manifests.model import Attributes
from noria.workers.digest import crc64nvme
from tests.conformance.conftest import Place

FULL = Attributes(
    content_type="text/plain; charset=utf-8",
    content_encoding="gzip",
    content_language="fr",
    content_disposition='attachment; filename="a b.txt"',
    cache_control="no-cache, max-age=0",
    metadata={"study": "S-17", "Phase_2": "two words", "spaced": "a  b", "odd": "=?x?="},
    tags={"project": "hdh 1", "path/like": "a+b=c"},
    modified_seconds=1700000000.125,
)


def by_lower_name(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (metadata or {}).items()}


def test_what_is_written_comes_back(place: Place) -> None:
    body = os.urandom(70_000)
    written = place.put("a", body, FULL, txid="job.3.4.5")
    into = memoryview(bytearray(len(body)))
    head = place.store.read_object(place.key("a"), into=into, etag=written.etag)
    assert bytes(into) == body
    assert written.crc64nvme in (None, crc64nvme(body))
    for stated in (head, place.store.head(place.key("a"))):
        assert stated is not None
        assert (stated.size, stated.etag, stated.txid) == (len(body), written.etag, "job.3.4.5")
        assert stated.crc64nvme in (None, crc64nvme(body))
        attributes = stated.attributes
        assert by_lower_name(attributes.metadata) == by_lower_name(FULL.metadata)
        assert attributes.modified_seconds == FULL.modified_seconds
        assert attributes.content_type == FULL.content_type
        assert attributes.content_encoding == FULL.content_encoding
        assert attributes.content_language == FULL.content_language
        assert attributes.content_disposition == FULL.content_disposition
        assert attributes.cache_control == FULL.cache_control
        assert stated.tag_count in ((2,) if place.ways.keeps_tags else (None, 0))
    if place.ways.keeps_metadata_case:
        assert head.attributes.metadata == FULL.metadata


def test_tags_come_back(place: Place) -> None:
    place.put("tagged", b"x", FULL)
    place.put("plain", b"x")
    if place.ways.keeps_tags:
        assert place.store.read_tags(place.key("tagged")) == FULL.tags
        assert place.store.read_tags(place.key("plain")) == {}
    head = place.store.head(place.key("plain"))
    assert head is not None
    assert not head.tag_count


def test_metadata_beyond_ascii_travels_or_is_refused(place: Place) -> None:
    words = Attributes(metadata={"name": "étude 漢字 🧬 " * 12, "edge": " x ", "none": ""})
    if place.ways.ascii_metadata_only:
        with pytest.raises(TargetRefused):
            place.put("a", b"x", words)
        assert place.store.head(place.key("a")) is None
    else:
        place.put("a", b"x", words)
        head = place.store.head(place.key("a"))
        assert head is not None
        assert head.attributes.metadata == words.metadata


def test_a_line_break_never_becomes_a_header(place: Place) -> None:
    if place.kind == "local":
        pytest.skip("a file's metadata is no header")
    for attributes in (
        Attributes(metadata={"a": "b\r\nx-injected: 1"}),
        Attributes(metadata={"a\r\nb": "c"}),
        Attributes(content_type="text/plain\r\nx-injected: 1"),
    ):
        with pytest.raises(TargetRefused):
            place.put("a", b"x", attributes)


def test_a_source_keeps_an_mtime_of_its_own(place: Place) -> None:
    place.put("a", b"x", Attributes(metadata={"Mtime": "2020"}, modified_seconds=5.0))
    head = place.store.head(place.key("a"))
    assert head is not None
    said = by_lower_name(head.attributes.metadata)
    assert said.get("mtime", head.attributes.modified_seconds) in ("2020", 2020.0)


def test_ranges(place: Place) -> None:
    body = os.urandom(300_000)
    etag = place.put("a", body).etag
    for offset, size in ((0, 300_000), (0, 1), (299_999, 1), (100_000, 65_537)):
        into = memoryview(bytearray(size))
        head = place.store.read_range(place.key("a"), offset=offset, into=into, etag=etag)
        assert bytes(into) == body[offset : offset + size]
        assert (head.size, head.etag) == (len(body), etag)


def test_an_empty_range_reads_the_head_alone(place: Place) -> None:
    etag = place.put("a", b"body").etag
    head = place.store.read_range(place.key("a"), offset=0, into=memoryview(b""), etag=etag)
    assert (head.size, head.etag, head.txid) == (4, etag, "job.0.1.1")
    with pytest.raises(SourceChanged):
        place.store.read_range(place.key("a"), offset=0, into=memoryview(b""), etag="another")


def test_an_empty_object(place: Place) -> None:
    etag = place.put("a", b"").etag
    head = place.store.read_object(place.key("a"), into=memoryview(bytearray()), etag=etag)
    assert head.size == 0
    assert place.read("a") == b""


def test_a_replaced_object_is_seen_by_every_read(place: Place) -> None:
    before = place.put("a", b"before").etag
    after = place.overwrite("a", b"after!").etag
    assert before != after
    into = memoryview(bytearray(6))
    with pytest.raises(SourceChanged):
        place.store.read_object(place.key("a"), into=into, etag=before)
    with pytest.raises(SourceChanged):
        place.store.read_range(place.key("a"), offset=0, into=into[:3], etag=before)
    place.store.read_object(place.key("a"), into=into, etag=None)
    assert bytes(into) == b"after!"


def test_another_size_than_planned(place: Place) -> None:
    etag = place.put("a", b"twelve bytes").etag
    for size in (11, 13):
        into = memoryview(bytearray(size))
        with pytest.raises(SourceChanged):
            place.store.read_object(place.key("a"), into=into, etag=None)
        with pytest.raises((SourceChanged, ShortBody)):
            place.store.read_object(place.key("a"), into=into, etag=etag)
    for offset in (0, 5, 12, 100):
        with pytest.raises(SourceChanged):
            place.store.read_range(
                place.key("a"), offset=offset, into=memoryview(bytearray(13)), etag=etag
            )


def test_a_missing_object(place: Place) -> None:
    into = memoryview(bytearray(1))
    assert place.store.head(place.key("missing")) is None
    with pytest.raises(SourceMissing):
        place.store.read_object(place.key("missing"), into=into, etag=None)
    with pytest.raises(SourceMissing):
        place.store.read_range(place.key("missing"), offset=0, into=into, etag=None)
    with pytest.raises(SourceMissing):
        place.store.read_range(place.key("missing"), offset=0, into=memoryview(b""), etag=None)
    if place.ways.keeps_tags:
        with pytest.raises(SourceMissing):
            place.store.read_tags(place.key("missing"))


def test_encoded_content_passes_untouched(place: Place) -> None:
    body = gzip.compress(b"plain text " * 1000)
    place.put("a.gz", body, Attributes(content_encoding="gzip", content_type="text/plain"))
    assert place.read("a.gz") == body


def test_many_threads_share_a_store(place: Place) -> None:
    bodies = {f"o{number}": os.urandom(10_000 + number) for number in range(40)}

    def there_and_back(name: str) -> bool:
        place.put(name, bodies[name])
        return place.read(name) == bodies[name]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(there_and_back, bodies))


def test_a_large_object_fills_the_callers_buffer(place: Place) -> None:
    body = os.urandom(1 << 20) * 9 + b"tail"
    place.put("large", body)
    assert place.read("large") == body
