from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    NoriaError,
    SourceUnreadable,
    StoreUnavailable,
)
from noria.workers.stores.listing import list_objects
from tests.conformance.conftest import Place, private


def elsewhere(place: Place) -> dict[str, Any]:
    """The settings of a container that is not there."""
    if place.kind == "local":
        return {"root": Path("/nonexistent/missing")}
    return {"container" if place.is_azure else "bucket": place.missing}


def test_access_is_there(place: Place) -> None:
    place.store.check_access()


def test_a_missing_container(place: Place) -> None:
    with pytest.raises(ConfigurationError):
        place.open(**elsewhere(place)).check_access()


def wrong_secret(place: Place) -> dict[str, str]:
    if place.kind == "azurite":
        text = private(place.store)._settings.connection_string
        key = text.partition("AccountKey=")[2].partition(";")[0]
        return {"connection_string": text.replace(key, "d3Jvbmctc2VjcmV0")}
    return {"secret_key": "wrong-secret"}


def test_a_wrong_secret_stops_the_run_and_is_not_told(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    if place.kind == "local" or (place.kind == "real" and place.is_azure):
        pytest.skip("files have no secret, and an identity has none to be changed here")
    caplog.set_level(logging.DEBUG)
    secret = wrong_secret(place)
    store = place.open(**secret)
    into = memoryview(bytearray(1))
    for call in (
        store.check_access,
        lambda: place.put("a", b"x", store=store),
        lambda: store.read_object(place.key("a"), into=into, etag=None),
        lambda: list(list_objects(store, "")),
    ):
        with pytest.raises(AccessDenied) as caught:
            call()
        told = f"{caught.value!r} {caught.value.__cause__!r} {vars(caught.value)} {caplog.text}"
        assert "d3Jvbmctc2VjcmV0" not in told
        assert "wrong-secret" not in told
        assert "sig=" not in told
    settings = repr(private(store)._settings)
    assert not any(value in settings for value in secret.values())


def test_a_source_that_may_only_be_read(place: Place) -> None:
    if place.kind != "azurite":
        pytest.skip("rights are cut down for Azure's account keys alone")
    place.put("a", b"x")
    store = place.open(read_only=True)
    store.read_object(place.key("a"), into=memoryview(bytearray(1)), etag=None)
    with pytest.raises(AccessDenied):
        place.put("b", b"x", store=store)
    with pytest.raises(AccessDenied):
        store.delete_object(place.key("a"))


def test_nobody_answers(place: Place) -> None:
    if place.kind == "local":
        pytest.skip("a folder has no address")
    closed = "http://127.0.0.1:9"
    changes = (
        {"endpoint": f"{closed}/{private(place.store)._settings.account}"}
        if place.is_azure
        else {"endpoint_url": closed}
    )
    store = place.open(**changes)
    with pytest.raises(StoreUnavailable):
        store.check_access()
    with pytest.raises(StoreUnavailable):
        place.put("a", b"x", store=store)


def test_plain_http_stays_on_this_machine(place: Place) -> None:
    if place.kind == "local":
        pytest.skip("a folder has no address")
    field = "endpoint" if place.is_azure else "endpoint_url"
    with pytest.raises(ConfigurationError):
        place.open(**{field: "http://storage.example"})
    place.open(**{field: "http://storage.example", "allow_plain_http": True})


def test_an_object_under_a_customers_key(place: Place) -> None:
    if place.kind != "seaweedfs":
        pytest.skip("of these servers, SeaweedFS alone knows SSE-C")
    mine = place.open(customer_key=bytes(range(32)))
    place.put("a", b"under a key", store=mine)
    into = memoryview(bytearray(11))
    mine.read_object(place.key("a"), into=into, etag=None)
    assert bytes(into) == b"under a key"
    with pytest.raises(SourceUnreadable):
        place.store.read_object(place.key("a"), into=into, etag=None)
    with pytest.raises(NoriaError):
        place.open(customer_key=bytes(32)).read_object(place.key("a"), into=into, etag=None)
    with pytest.raises(ConfigurationError):
        place.open(customer_key=b"short")


def test_an_archived_blob(place: Place, request: pytest.FixtureRequest) -> None:
    if place.kind != "azurite":
        pytest.skip("of these servers, Azurite alone has an archive")
    place.put("a", b"cold")
    container = private(place.store)._settings.container
    with request.getfixturevalue("azurite").client() as client:
        client.get_blob_client(container, place.key("a")).set_standard_blob_tier("Archive")
    with pytest.raises(SourceUnreadable, match="BlobArchived"):
        place.store.read_object(place.key("a"), into=memoryview(bytearray(4)), etag=None)
    (batch,) = list_objects(place.store, place.prefix)
    assert batch.column("tier").to_pylist() == ["Archive"]
