from __future__ import annotations

import pytest

from noria.manifests.errors import ConfigurationError
from noria.manifests.plan.providers import (
    CAREFUL_RULES,
    PROVIDERS,
    TB,
    known_name_rules,
    limits_for,
    provider_of_endpoint,
)

S3_PROVIDERS = sorted(set(PROVIDERS) - {"azure", "local", "s3"})


@pytest.mark.parametrize("name", PROVIDERS)
def test_limits_hold_together_and_state_their_source(name: str) -> None:
    limits = limits_for(name)
    assert limits.name == name
    assert limits.min_part_bytes <= limits.max_part_bytes <= limits.max_object_bytes
    assert limits.max_put_bytes <= limits.max_object_bytes
    assert limits.max_key_bytes is not None or limits.max_key_characters is not None
    assert any("http" in source for source in limits.sources) or name in ("s3", "seaweedfs")


@pytest.mark.parametrize("name", S3_PROVIDERS)
def test_the_unknown_s3_is_no_wider_than_any_other(name: str) -> None:
    known, unknown = limits_for(name), limits_for("s3")
    assert unknown.max_object_bytes <= known.max_object_bytes
    assert unknown.max_put_bytes <= known.max_put_bytes or known.max_put_bytes >= 4 * 2**30
    assert unknown.max_parts <= known.max_parts
    assert unknown.max_part_bytes <= known.max_part_bytes
    assert unknown.min_part_bytes >= known.min_part_bytes
    assert (unknown.max_segment_bytes or 0) <= (known.max_segment_bytes or 1024)


def test_scaleway_has_a_thousand_parts_and_five_terabytes() -> None:
    limits = limits_for("scaleway")
    assert (limits.max_parts, limits.max_object_bytes) == (1_000, 5 * TB)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="choose one of aws, scaleway"):
        limits_for("scaleaway")
    with pytest.raises(ConfigurationError):
        known_name_rules("")


def test_nothing_known_means_careful_rules() -> None:
    assert known_name_rules("scaleway") == known_name_rules("s3") == CAREFUL_RULES
    assert not known_name_rules("aws").merges_slashes


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://s3.fr-par.scw.cloud", "scaleway"),
        ("https://bucket.s3.nl-ams.scw.cloud/", "scaleway"),
        ("https://S3.GRA.io.cloud.OVH.net", "ovhcloud"),
        ("https://s3.us-east-va.io.cloud.ovh.us", "ovhcloud"),
        ("https://oos.cloudgouv-eu-west-1.outscale.com:443/x", "outscale"),
        ("https://s3.eu-west-3.amazonaws.com", "aws"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "aws"),
        ("https://account.blob.core.windows.net/container", "azure"),
        ("https://account.z01.blob.storage.azure.net", "azure"),
        ("az://account/container/prefix", "azure"),
        ("file:///srv/objects", "local"),
        ("s3.fr-par.scw.cloud", "scaleway"),
        ("http://127.0.0.1:8333", "s3"),
        ("https://minio.example.org", "s3"),
        ("https://notscw.cloud", "s3"),
        ("https://scw.cloud.example.org", "s3"),
        ("https://example.org/s3.fr-par.scw.cloud", "s3"),
        ("https://[::1]:9000", "s3"),
    ],
)
def test_the_endpoint_names_its_provider(url: str, provider: str) -> None:
    assert provider_of_endpoint(url) == provider
