"""The names of all containers of an account, buckets of a service, folders of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.stores.inspection import InspectedStore
from tests.conformance.conftest import Place, private
from tests.conformance.test_access import wrong_secret

NUMBER = 7


@contextmanager
def made(place: Place) -> Iterator[tuple[InspectedStore, set[str]]]:
    """A store opened on no container in particular, and names that are there now."""
    settings: Any = private(place.store)._settings if place.kind != "local" else None
    if settings is None:
        root = Path(private(place.store)._root)
        names = {f"project-{number}" for number in range(NUMBER)}
        for name in names:
            (root / name).mkdir()
        (root / "file").write_bytes(b"no folder")
        yield cast(InspectedStore, place.open()), names
        return
    own = settings.container if place.is_azure else settings.bucket
    names = {f"{own[:40]}-{number}" for number in range(NUMBER)}
    which = "container" if place.is_azure else "bucket"
    for name in names:
        cast(InspectedStore, place.open(**{which: name})).make_container()
    yield cast(InspectedStore, place.open(**{which: "any", "page_keys": 3})), names | {own}


def test_all_names_from_all_pages(place: Place) -> None:
    if place.kind == "real":
        pytest.skip("nothing is made in an account that is in use")
    with made(place) as (store, names):
        found = list(store.list_containers())
    assert names <= set(found)
    assert len(found) == len(set(found))
    if place.kind == "local":
        assert set(found) == names


def test_wrong_credentials_are_told(place: Place) -> None:
    if place.kind in ("local", "real"):
        pytest.skip("files have no secret, and an identity has none to be changed here")
    store = cast(InspectedStore, place.open(**wrong_secret(place)))
    with pytest.raises(AccessDenied):
        list(store.list_containers())


def test_a_bucket_in_the_name_of_the_host_is_not_asked(place: Place) -> None:
    if place.kind != "seaweedfs":
        pytest.skip("of S3 alone")
    settings = replace(private(place.store)._settings, endpoint_url="https://s3.example")
    changes = {"endpoint_url": settings.endpoint_url, "path_style": False}
    store = cast(InspectedStore, place.open(**changes))
    with pytest.raises(ConfigurationError, match="path_style = true"):
        list(store.list_containers())
