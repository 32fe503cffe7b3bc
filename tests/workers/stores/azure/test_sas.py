"""The SAS of our own against the SDK's: the same text, for the same key, rights and time."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest
from azure.storage.blob import generate_container_sas
from azure.storage.blob._shared_access_signature import BlobSharedAccessSignature

from noria.manifests.errors import AccessDenied
from noria.workers.stores.azure.sas import container_sas
from noria.workers.stores.azure.settings import API_VERSION

ACCOUNT = "noriatests"
KEYS = [base64.b64encode(bytes(range(start, start + 64))).decode() for start in range(0, 192, 48)]
EXPIRY = datetime(2031, 2, 3, 4, 5, 6, 789, tzinfo=UTC)


def of_the_sdk(container: str, key: str, permissions: str, expiry: datetime, version: str) -> str:
    signature = BlobSharedAccessSignature(ACCOUNT, key)
    signature.x_ms_version = version
    return str(signature.generate_container(container, permission=permissions, expiry=expiry))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("permissions", ["rl", "rlt", "rcwdlt"])
@pytest.mark.parametrize("container", ["projects", "$logs"])
def test_it_is_what_the_sdk_signs(container: str, permissions: str, key: str) -> None:
    own = container_sas(
        ACCOUNT, container, key, permissions=permissions, expiry=EXPIRY, version=API_VERSION
    )
    assert own == of_the_sdk(container, key, permissions, EXPIRY, API_VERSION)


def test_the_sdk_s_own_version_is_signed_alike() -> None:
    theirs = generate_container_sas(
        ACCOUNT, "projects", account_key=KEYS[0], permission="rl", expiry=EXPIRY
    )
    version = theirs.partition("sv=")[2].partition("&")[0]
    own = container_sas(
        ACCOUNT, "projects", KEYS[0], permissions="rl", expiry=EXPIRY, version=version
    )
    assert own == theirs


def test_a_time_of_another_zone_is_the_same_time() -> None:
    elsewhere = EXPIRY.astimezone(timezone(timedelta(hours=5, minutes=30)))
    signed = [
        container_sas(ACCOUNT, "c", KEYS[0], permissions="rl", expiry=expiry, version=API_VERSION)
        for expiry in (EXPIRY, elsewhere)
    ]
    assert signed[0] == signed[1]


@pytest.mark.parametrize("key", ["no base64!", "abc"])
def test_a_key_that_is_no_base64_is_refused_without_being_named(key: str) -> None:
    with pytest.raises(AccessDenied) as refused:
        container_sas(ACCOUNT, "c", key, permissions="rl", expiry=EXPIRY, version=API_VERSION)
    assert key not in str(refused.value)
