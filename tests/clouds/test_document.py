"""CLOUDS.md is current, and the limits that it names are those that a plan keeps to."""

from __future__ import annotations

import pytest

from noria.engine.config.addresses import is_known_service
from noria.manifests.plan.parts import fit_parts
from noria.manifests.plan.providers import MIB, limits_for, provider_of_endpoint
from tests.clouds.document import DOCUMENT, written
from tests.clouds.profiles import PROFILES, CloudProfile
from tests.clouds.rules import HoldsParts

HOSTED = [profile for profile in PROFILES if profile.host is not None]


def test_the_document_is_current() -> None:
    text = DOCUMENT.read_text()
    assert text == written(text), "run: .venv/bin/python -m tests.clouds.document"


def test_every_difference_has_a_source() -> None:
    for profile in PROFILES:
        whats = [each.what for each in profile.differences]
        assert len(set(whats)) == len(whats)
        for each in profile.differences:
            assert each.source.startswith("https://"), each.what
            assert "|" not in each.what + each.noria


@pytest.mark.parametrize("profile", HOSTED, ids=lambda profile: profile.name)
def test_the_host_gives_the_limits(profile: CloudProfile) -> None:
    """No setting is needed: what the tests say by `provider`, a real endpoint says by its name."""
    assert profile.host is not None
    assert provider_of_endpoint(profile.host) == profile.provider
    assert profile.azure or is_known_service(profile.host)


def test_a_thousand_parts_are_enough_for_every_object_at_scaleway() -> None:
    scaleway = next(profile for profile in PROFILES if profile.name == "scaleway")
    most = next(r.parts for e in scaleway.differences if isinstance(r := e.rule, HoldsParts))
    limits = limits_for(provider_of_endpoint(scaleway.host or ""))
    for size in (100 * 10**9, 10**12, 49 * 10**11):
        plan = fit_parts(size, limits, part_bytes=16 * MIB, chunk_bytes=8 * MIB)
        assert plan.parts <= most
        assert plan.part_bytes <= 5 * 10**9
