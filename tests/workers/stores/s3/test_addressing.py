"""Where the bucket is written, and what is sent for a bucket that anybody may read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from noria.manifests.errors import ConfigurationError, NoriaError
from noria.workers.http.proxies import Proxies
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.connect_proxy import connect_proxy
from tests.support.scripted import Caller, scripted

EMPTY = (
    b"<ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
)
MINE = S3Settings(bucket="mine", region="r-1", allow_plain_http=True)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def asked(settings: S3Settings, error: type[NoriaError] | None = None, match: str = "") -> str:
    """The head of the first request to a store that takes BUCKET.HOST alone.

    A proxy leads to it, whatever its name.
    """
    heads: list[str] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            heads.append(head.decode())
            if "\r\nhost: mine.store.test" in heads[-1] and "/mine" not in heads[-1].split()[1]:
                caller.say("HTTP/1.1 200 OK", f"content-length: {len(EMPTY)}", body=EMPTY)
            else:
                caller.say("HTTP/1.1 403 Forbidden", "content-length: 0")

    with scripted(play) as host, connect_proxy(leads_to=host.url.removeprefix("http://")) as proxy:
        store = S3Store(replace(settings, proxies=Proxies.of({"HTTP_PROXY": proxy.url})))
        if error is None:
            store.check_access()
        else:
            with pytest.raises(error, match=match):
                store.check_access()
        store.close()
    return heads[0]


def test_a_store_that_takes_the_bucket_in_its_host_alone() -> None:
    settings = replace(MINE, endpoint_url="http://store.test")
    head = asked(replace(settings, path_style=False))
    assert "Credential=AKIA/" in head
    asked(settings, NoriaError, match="set path_style = false")


def test_no_bucket_stands_before_an_address() -> None:
    with pytest.raises(ConfigurationError, match="path_style"):
        S3Store(replace(MINE, endpoint_url="http://127.0.0.1:9000", path_style=False))


def test_an_anonymous_source_signs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = replace(MINE, endpoint_url="http://store.test", path_style=False, anonymous=True)
    head = asked(settings).lower()
    assert "authorization" not in head
    assert "x-amz-date" not in head
