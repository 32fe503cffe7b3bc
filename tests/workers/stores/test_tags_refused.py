"""A write that is refused because of its tags says so: no real server here refuses just them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.credentials import Credentials

from noria.manifests.errors import AccessDenied, NoriaError, TagsDenied, TagsRefused
from noria.manifests.model import Attributes
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.protocol import TargetStore
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.scripted import Caller, scripted

TAGGED = Attributes(tags={"k": "v"})


def s3(url: str) -> TargetStore:
    keys = Credentials("key", "secret")
    return S3Store(S3Settings(bucket="b", endpoint_url=url, region="r"), keys)


def azure(url: str) -> TargetStore:
    return AzureStore(AzureSettings(account="a", container="c", endpoint=url, sas="sig=x"))


def put(store: TargetStore, attributes: Attributes) -> None:
    store.put_object("k", memoryview(b"x"), attributes=attributes, txid="t", crc64nvme=0)


def create(store: TargetStore, attributes: Attributes) -> None:
    store.create_upload("k", attributes=attributes, txid="t", size=1)


def complete(store: TargetStore, attributes: Attributes) -> None:
    store.complete_upload("k", "u", [], size=0, crc64nvme=0, attributes=attributes, txid="t")


@pytest.mark.parametrize(
    ("open_store", "write"), [(s3, put), (s3, create), (azure, put), (azure, complete)]
)
@pytest.mark.parametrize(
    ("status", "tagged", "plain"),
    [(501, TagsRefused, NoriaError), (403, TagsDenied, AccessDenied)],
)
def test_a_refusal_names_the_tags(
    open_store: Callable[[str], TargetStore],
    write: Callable[[TargetStore, Attributes], None],
    status: int,
    tagged: type[NoriaError],
    plain: type[NoriaError],
) -> None:
    def play(caller: Caller) -> None:
        while head := caller.request():
            caller.body(int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0]))
            code = "<Error><Code>AccessDenied</Code></Error>" if status == 403 else ""
            lines: list[Any] = [f"HTTP/1.1 {status} No", f"content-length: {len(code)}"]
            if status == 403:
                lines.append("x-ms-error-code: AuthorizationPermissionMismatch")
            caller.say(*lines, body=code.encode())

    with scripted(play) as host:
        store = open_store(host.url)
        with pytest.raises(tagged, match=r"run\.unfit_tags"):
            write(store, TAGGED)
        with pytest.raises(plain) as caught:
            write(store, Attributes())
        assert not isinstance(caught.value, TagsDenied | TagsRefused)
        store.close()


@pytest.mark.parametrize(
    ("open_store", "status", "code", "message"),
    [
        # Backblaze B2, https://github.com/Intrinsec/s3proxy/issues/34
        (s3, 400, "InvalidArgument", "Unsupported header 'x-amz-tagging' received for this call."),
        (s3, 400, "InvalidTag", "The TagValue you have provided is invalid"),
        (azure, 400, "InvalidTags", "The tags specified are invalid."),
        (azure, 409, "FeatureNotYetSupportedForHierarchicalNamespaceAccounts", "Not supported."),
        (azure, 400, "UnsupportedHeader", "<HeaderName>x-ms-tags</HeaderName>"),
    ],
)
def test_a_refusal_that_names_tags_is_about_tags(
    open_store: Callable[[str], TargetStore], status: int, code: str, message: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()

    def play(caller: Caller) -> None:
        while caller.request():
            caller.body(1)
            lines = [f"HTTP/1.1 {status} No", f"x-ms-error-code: {code}"]
            caller.say(*lines, f"content-length: {len(body)}", body=body)

    with scripted(play) as host:
        store = open_store(host.url)
        with pytest.raises(TagsRefused, match=r"run\.unfit_tags"):
            put(store, TAGGED)
        with pytest.raises(NoriaError) as caught:
            put(store, Attributes())
        assert not isinstance(caught.value, TagsRefused)
        store.close()


def test_wrong_credentials_are_not_about_tags() -> None:
    body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"

    def play(caller: Caller) -> None:
        while caller.request():
            caller.body(1)
            caller.say("HTTP/1.1 403 Forbidden", f"content-length: {len(body)}", body=body)

    with scripted(play) as host:
        store = s3(host.url)
        with pytest.raises(AccessDenied) as caught:
            put(store, TAGGED)
        assert not isinstance(caught.value, TagsDenied)
        store.close()


def test_a_server_that_answers_with_the_object_shows_no_tags() -> None:
    def play(caller: Caller) -> None:
        while caller.request():
            caller.say("HTTP/1.1 200 OK", "content-length: 5", body=b"hello")

    with scripted(play) as host:
        store = s3(host.url)
        with pytest.raises(NoriaError, match="shows no tags"):
            store.read_tags("k")
        store.close()
