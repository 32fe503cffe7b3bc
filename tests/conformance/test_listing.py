from __future__ import annotations

import json
import random
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from noria.manifests.errors import ConfigurationError, OutcomeUnknown
from noria.manifests.model import Attributes
from noria.manifests.schema import INVENTORY_SCHEMA
from noria.workers.stores.listing import list_objects
from noria.workers.stores.protocol import TargetStore
from tests.conformance.conftest import Place
from tests.conformance.test_access import elsewhere
from tests.conformance.test_reading import FULL

SMALL_PAGES = 300


@pytest.fixture(scope="session")
def many(home: Place) -> dict[str, int]:
    """3,000 keys below home's with their sizes: flat ones, and nested with files beside folders."""
    names = [f"listed/flat-{number:04}" for number in range(1500)]
    names += [
        f"listed/a{one}/b{two}/c{three}/f{four}"
        for one in range(3)
        for two in range(5)
        for three in range(10)
        for four in range(9)
    ]
    names += [f"listed/a{one}/f{four:03}" for one in range(3) for four in range(50)]
    sizes = {name: number % 7 for number, name in enumerate(names)}

    def put(name: str) -> None:
        try:
            home.put(name, b"x" * sizes[name])
        except OutcomeUnknown:  # rclone trips over two threads that make the same folder
            home.put(name, b"x" * sizes[name])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, names))
    return sizes


def written(home: Place, names: list[str]) -> list[str]:
    """Empty objects of these names below home's; the whole keys."""

    def put(name: str) -> None:
        try:
            home.put(name, b"")
        except OutcomeUnknown:  # rclone trips over two threads that make the same folder
            home.put(name, b"")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, names))
    return sorted(map(home.key, names))


@pytest.fixture(scope="session")
def flat(home: Place) -> list[str]:
    """5,000 keys side by side."""
    names = [f"{number * 7919 % 100_003:05x}" for number in range(5_000)]
    return written(home, [f"flat/study-{name}.dcm" for name in names])


@pytest.fixture(scope="session")
def unicode(home: Place) -> list[str]:
    """Names on whose order bytes and UTF-16 disagree, and such as are quoted in XML or in URLs."""
    chance = random.Random(11)
    letters = ["a", "b", "é", "語", "\uff5e", "\U0001f600", "+", "%", "&", "-", "_", "'", " x"]
    names = {"".join(chance.choices(letters, k=chance.randint(1, 7))) for _ in range(600)}
    return written(home, [f"unicode/n{name}.d" for name in sorted(names)])


def listed(store: TargetStore, prefix: str, streams: int) -> list[tuple[str, int]]:
    rows: list[tuple[str, int]] = []
    for batch in list_objects(store, prefix, streams=streams):
        assert batch.schema == INVENTORY_SCHEMA
        rows += zip(batch.column("key").to_pylist(), batch.column("size").to_pylist(), strict=True)
    return rows


@pytest.mark.parametrize("streams", [1, 8])
def test_every_key_once(home: Place, many: dict[str, int], streams: int) -> None:
    store = home.store if home.kind == "local" else home.open(page_keys=SMALL_PAGES)
    expected = sorted((home.key(name), size) for name, size in many.items())
    assert sorted(listed(store, home.key("listed/"), streams)) == expected
    home.close()


@pytest.mark.parametrize("page_keys", [250, 1000])
def test_a_flat_prefix_in_pieces(home: Place, flat: list[str], page_keys: int) -> None:
    if home.kind == "local":
        pytest.skip("a folder is one page")
    store = home.open(page_keys=page_keys)
    serial = [key for key, _ in listed(store, home.key("flat/"), 1)]
    assert serial == flat
    for splits in ((), flat[::500], [home.key("flat/study-"), home.key("flat/t")]):
        batches = list_objects(store, home.key("flat/"), streams=8, splits=splits)
        assert sorted(key for batch in batches for key in batch["key"].to_pylist()) == flat
    home.close()


def test_odd_names_in_pieces(home: Place, unicode: list[str]) -> None:
    store = home.store if home.kind == "local" else home.open(page_keys=7)
    for streams in (1, 8):
        found = [key for key, _ in listed(store, home.key("unicode/"), streams)]
        assert sorted(found) == unicode
    splits = unicode[::50]
    batches = list_objects(store, home.key("unicode/"), streams=8, splits=splits)
    assert sorted(key for batch in batches for key in batch["key"].to_pylist()) == unicode
    home.close()


@pytest.mark.parametrize("prefix", ["listed/a1/b2/", "listed/a1", "listed/flat-01", "listed/x"])
def test_a_prefix_may_end_anywhere(home: Place, many: dict[str, int], prefix: str) -> None:
    below = {home.key(name): size for name, size in many.items() if name.startswith(prefix)}
    assert sorted(listed(home.store, home.key(prefix), 4)) == sorted(below.items())


def test_rows_say_what_head_says(place: Place) -> None:
    place.put("a", b"twelve bytes", FULL)
    head = place.store.head(place.key("a"))
    assert head is not None
    (row,) = pa.Table.from_batches(list_objects(place.store, place.prefix)).to_pylist()
    assert (row["key"], row["size"], row["etag"]) == (place.key("a"), head.size, head.etag)
    assert row["last_modified"].tzinfo is not None
    assert row["not_current"] is None


def test_azure_states_attributes_for_free(place: Place) -> None:
    if not place.is_azure:
        pytest.skip("other listings state no attributes")
    place.put("a", b"twelve bytes", FULL)
    place.put("folder", b"", Attributes(metadata={"Hdi_isfolder": "true"}))
    rows = pa.Table.from_batches(list_objects(place.store, place.prefix)).to_pylist()
    row, folder = sorted(rows, key=lambda row: str(row["key"]))
    assert row["content_type"] == FULL.content_type
    assert row["content_encoding"] == FULL.content_encoding
    assert row["content_disposition"] == FULL.content_disposition
    if place.ways.keeps_tags:
        assert json.loads(row["tags"]) == FULL.tags
    assert json.loads(row["metadata"]) == {
        **FULL.metadata,
        "noriatxid": "job.0.1.1",
        "mtime": "1700000000.125",
    }
    assert len(row["content_md5"]) == 16
    assert (row["tier"], row["blob_type"]) == ("Hot", "BlockBlob")
    assert (row["is_folder"], folder["is_folder"]) == (False, True)


def test_a_listing_that_is_left_ends_its_threads(home: Place, many: dict[str, int]) -> None:
    store = home.store if home.kind == "local" else home.open(page_keys=SMALL_PAGES)
    batches = list_objects(store, home.key("listed/"), streams=8)
    next(batches)
    assert isinstance(batches, Generator)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("list-")]
    home.close()


def test_nothing_below(place: Place) -> None:
    assert list(list_objects(place.store, place.prefix)) == []
    assert list(list_objects(place.store, place.key("no/such/folder/"))) == []


def test_a_missing_container_ends_the_listing(place: Place) -> None:
    with pytest.raises(ConfigurationError):
        list(list_objects(place.open(**elsewhere(place)), ""))
