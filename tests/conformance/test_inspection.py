from __future__ import annotations

from noria.workers.stores.inspection import (
    Granted,
    SourceRights,
    TargetRights,
    source_rights,
    target_rights,
)
from noria.workers.stores.listing import list_objects
from tests.conformance.conftest import Place, private

EVERYTHING = SourceRights(
    lists=Granted.YES,
    reads=Granted.YES,
    reads_tags=Granted.YES,
    lists_outside=Granted.YES,
    writes=Granted.YES,
    deletes=Granted.YES,
)


def names(place: Place) -> list[str]:
    batches = list_objects(place.store, place.prefix, streams=1)
    return [key for batch in batches for key in batch["key"].to_pylist()]


def test_rights_are_asked_for_and_nothing_changes(place: Place) -> None:
    place.put("below/a", b"x")
    rights = source_rights(private(place.store), place.prefix)
    if place.kind == "rclone_s3":
        assert rights.reads_tags is Granted.UNCLEAR, "it answers with the object"
    else:
        assert rights == EVERYTHING
    assert target_rights(private(place.store), place.prefix) == TargetRights(
        lists_uploads=Granted.YES, aborts_uploads=Granted.YES, lists_outside=Granted.YES
    )
    assert names(place) == [place.key("below/a")]
    assert list(place.store.list_uploads(place.prefix)) == []
    if place.kind == "seaweedfs":
        assert [version.is_marker for version in place.store.list_versions(place.prefix)] == [False]


def test_nothing_there_can_not_be_read(place: Place) -> None:
    rights = source_rights(private(place.store), place.prefix)
    assert (rights.lists, rights.reads) == (Granted.YES, Granted.UNCLEAR)


def test_what_the_service_says_of_itself(place: Place) -> None:
    service = private(place.store).service(place.prefix)
    assert service.encryption is None
    if place.kind != "local":
        assert abs(service.clock_seconds) < 30, "the same machine"
        assert service.endpoint.startswith("http://127.0.0.1:")
    assert private(place.store).protection().retention is None
