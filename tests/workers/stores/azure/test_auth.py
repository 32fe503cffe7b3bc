from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from noria.manifests.errors import AccessDenied, ConfigurationError, StoreUnavailable
from noria.workers.stores.azure.auth import (
    SETTLE_SECONDS,
    Authorization,
    Authorizations,
    Right,
    parse_connection_string,
)
from noria.workers.stores.azure.issuing import TOKEN_SCOPE
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.listing import list_objects
from tests.support.scripted import Caller, scripted


class Office:
    """Issues grants that last 100 seconds, and keeps the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.issued = 0
        self.shut = False

    def issue(self, right: Right) -> Authorization:
        if self.shut:
            raise AccessDenied("shut")
        self.issued += 1
        return Authorization(query=f"{right.value}-{self.issued}", expires_at=self.now + 100)


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def authorizations(office: Office) -> Authorizations:
    return Authorizations(office.issue, lambda: office.now)


def test_a_grant_is_kept_and_renewed_in_time(
    office: Office, authorizations: Authorizations
) -> None:
    first = authorizations.get(Right.BLOBS)
    office.now += 79
    assert authorizations.get(Right.BLOBS) is first
    office.now += 2
    assert authorizations.get(Right.BLOBS).query == "blobs-2"
    assert authorizations.get(Right.TAGS).query == "tags-3"


def test_while_none_can_be_had_the_old_one_serves_to_its_end(
    office: Office, authorizations: Authorizations
) -> None:
    first = authorizations.get(Right.BLOBS)
    office.shut = True
    office.now += 99
    assert authorizations.get(Right.BLOBS) is first
    office.now += 1
    with pytest.raises(AccessDenied):
        authorizations.get(Right.BLOBS)


def test_a_refused_grant_is_renewed_once(office: Office, authorizations: Authorizations) -> None:
    first = authorizations.get(Right.BLOBS)
    assert not authorizations.drop(Right.BLOBS, first)
    office.now += SETTLE_SECONDS
    assert authorizations.drop(Right.BLOBS, first)
    second = authorizations.get(Right.BLOBS)
    assert authorizations.drop(Right.BLOBS, first), "another thread has renewed it: try again"
    assert authorizations.get(Right.BLOBS) is second
    assert not authorizations.drop(Right.BLOBS, second)


def test_a_grant_shows_no_secret() -> None:
    assert "secret" not in repr(Authorization(query="sig=secret", authorization="Bearer secret"))


def test_connection_strings() -> None:
    parsed = parse_connection_string(
        "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5==;EndpointSuffix=x.net"
    )
    assert (parsed.account, parsed.endpoint) == ("acc", "https://acc.blob.x.net")
    assert parsed.key == "a2V5=="
    assert "a2V5" not in repr(parsed)
    shared = parse_connection_string(
        "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D"
    )
    assert (shared.account, shared.endpoint) == ("acc", "https://acc.blob.core.windows.net")
    assert (shared.key, shared.sas) == (None, "sv=1&sig=x%3D")
    with pytest.raises(ConfigurationError) as caught:
        parse_connection_string("AccountName=acc;Secret=a2V5")
    assert "a2V5" not in str(caught.value)


@dataclass(slots=True)
class Identity:
    """A credential whose tokens live for `seconds`; the third request for one fails."""

    seconds: float
    asked: int = 0

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        assert scopes == (TOKEN_SCOPE,)
        self.asked += 1
        if self.asked > 2:
            raise ClientAuthenticationError("token-2 was the last, says secret-tenant")
        return AccessToken(f"token-{self.asked}", int(time.time() + self.seconds))


def test_an_identity_is_asked_again_when_its_token_has_run_out() -> None:
    seen: list[bytes] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            seen.extend(line for line in head.split(b"\r\n") if line.startswith(b"authorization"))
            caller.say("HTTP/1.1 404 Not Found", "x-ms-error-code: BlobNotFound")

    with scripted(play) as host:
        store = AzureStore(
            AzureSettings(account="acc", container="c", endpoint=f"{host.url}/acc"),
            Identity(seconds=-1),
        )
        assert store.head("a") is None
        assert store.head("a") is None
        with pytest.raises(AccessDenied) as caught:
            store.head("a")
        assert "secret-tenant" not in str(caught.value)
        store.close()
    assert seen == [b"authorization: Bearer token-1", b"authorization: Bearer token-2"]


def test_tags_are_left_out_of_listings_that_may_not_see_them() -> None:
    asked: list[bool] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            asked.append(b"tags" in head.split(b"\r\n")[0])
            if asked[-1]:
                caller.say(
                    "HTTP/1.1 403 Forbidden",
                    "x-ms-error-code: AuthorizationPermissionMismatch",
                    "content-length: 0",
                )
                continue
            more = b"<NextMarker>m</NextMarker>" if len(asked) == 2 else b""
            body = b"<EnumerationResults><Blobs/>" + more + b"</EnumerationResults>"
            caller.say("HTTP/1.1 200 OK", f"content-length: {len(body)}", body=body)

    with scripted(play) as host:
        store = AzureStore(
            AzureSettings(account="acc", container="c", endpoint=f"{host.url}/acc", sas="?sig=x")
        )
        assert list(list_objects(store, "", streams=1)) == []
        store.close()
    assert asked == [True, False, False]


def test_an_expired_sas_is_the_end() -> None:
    def play(caller: Caller) -> None:
        while caller.request():
            caller.say(
                "HTTP/1.1 403 Forbidden",
                "x-ms-error-code: AuthenticationFailed",
                "content-length: 0",
            )

    with scripted(play) as host:
        store = AzureStore(
            AzureSettings(account="acc", container="c", endpoint=host.url, sas="sig=secret")
        )
        with pytest.raises(AccessDenied) as caught:
            store.head("a")
        assert "secret" not in str(caught.value)
        store.close()
    with pytest.raises(StoreUnavailable):
        store.head("a")


@pytest.mark.parametrize(
    ("authorization", "kind", "ends_at"),
    [
        (Authorization(query="sv=1&se=2026-12-31T00%3A00%3A00Z&sp=rl"), "a SAS", 1798675200.0),
        (Authorization(query="se=2026-12-31&sig=x"), "a SAS", 1798675200.0),
        (Authorization(query="si=policy&sig=x"), "a SAS", None),
        (Authorization(query="se=some+day"), "a SAS", None),
        (
            Authorization(query="se=2026-12-31", expires_at=9.0, of_key=True),
            "the account's key",
            None,
        ),
        (Authorization(authorization="Bearer x", expires_at=9.0), "an identity's token", 9.0),
        (Authorization(), "none", None),
    ],
)
def test_what_an_authorization_is_and_when_it_ends(
    authorization: Authorization, kind: str, ends_at: float | None
) -> None:
    assert (authorization.kind, authorization.ends_at) == (kind, ends_at)
