from __future__ import annotations

from dataclasses import replace

import pytest

from noria.manifests.plan.providers import NameRules
from noria.workers.digest import crc64nvme
from noria.workers.stores import canaries
from tests.conformance.conftest import Place
from tests.support.probing import probe_target

PROVIDERS = {
    "azurite": "azure",
    "seaweedfs": "seaweedfs",
    "rclone_s3": "rclone",
    "local": "local",
}
RULES = {
    "azurite": NameRules(
        backslash_is_slash=True, refuses_control_characters=True, refuses_nul=True
    ),
    "seaweedfs": NameRules(
        merges_slashes=True,
        strips_leading_slash=True,
        backslash_is_slash=True,
        drops_directory_body=True,
        refuses_dot_segments=True,
        refuses_nul=True,
        reserved_segments=(".uploads",),
        max_segment_bytes=255,
    ),
    "rclone_s3": NameRules(
        strips_trailing_slash=True,
        refuses_empty_segments=True,
        refuses_dot_segments=True,
        refuses_nul=True,
        file_and_directory_conflict=True,
        max_segment_bytes=255,
    ),
}


def test_what_the_probe_reports(home: Place) -> None:
    if home.kind == "real":
        pytest.skip("what a store is to do is known of those that the tests run")
    facts = home.facts
    assert facts.capabilities == home.ways.capabilities
    assert facts.provider == PROVIDERS[home.kind]
    if home.kind == "local":
        assert facts.name_rules.refuses_empty_segments
        assert facts.name_rules.refuses_dot_segments
        assert facts.name_rules.drops_directory_body
        assert facts.name_rules.file_and_directory_conflict
        assert not facts.name_rules.backslash_is_slash
    elif home.kind == "rclone_s3":
        # It lists control characters as they are until it reads its folder again.
        found = replace(facts.name_rules, refuses_control_characters=False)
        assert found == RULES[home.kind]
    else:
        assert facts.name_rules == RULES[home.kind]


def test_a_probe_leaves_the_store_as_it_was_and_nothing_in_it(place: Place) -> None:
    store = place.open()
    place.put("standing", b"x")
    for _ in range(2):
        facts = probe_target(store, place.prefix, "token")
        atomic = place.facts.capabilities.atomic_complete  # what one race misses, another one shows
        found = replace(facts.capabilities, atomic_complete=atomic)
        assert found == place.facts.capabilities
        assert store.capabilities == place.facts.capabilities
        assert list(store.list_uploads(place.prefix)) == []
        assert place.read("standing") == b"x"
        for name in (
            "standing",
            "parts",
            "both",
            "both/x",
            "body/",
            "empty/x",
            "control\x01\x1f\x7fx",
        ):
            assert store.head(place.key(f".noria-probe-token/{name}")) is None


def test_the_canarys_checksum_is_that_of_its_bytes() -> None:
    assert crc64nvme(canaries.BODY) == canaries.CRC
    assert crc64nvme(b"") == 0


def test_canaries_that_another_process_left_are_found_and_removed(place: Place) -> None:
    store = place.open()
    killed = canaries.Canaries(store, place.prefix, "token")
    killed.put(killed.target, f"{killed.base}standing")
    killed.open_upload(killed.target, f"{killed.base}parts")
    later = canaries.Canaries(store, place.prefix, "token")
    assert later.are_there()
    assert later.remove() == 0
    assert not later.are_there()
    assert store.head(f"{killed.base}standing") is None
