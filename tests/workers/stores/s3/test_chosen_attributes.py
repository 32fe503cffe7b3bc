"""What a job file chooses for written objects is in the headers of each request that makes one."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.credentials import Credentials

from noria.manifests.model import Attributes
from noria.workers.stores.protocol import CLASS_OF_SOURCE
from noria.workers.stores.s3.headers import whole_head
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.scripted import Caller, scripted

INFREQUENT = Attributes(storage_class="STANDARD_IA")


def heads_of(attributes: Attributes, **settings: Any) -> list[dict[str, str]]:
    """The headers of a PUT, of the opening of an upload and of a HEAD."""
    heads: list[dict[str, str]] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            lines = head.decode().split("\r\n")[1:]
            headers = dict(line.split(": ", 1) for line in lines)
            heads.append(headers)
            caller.body(int(headers.get("content-length", 0)))
            body = b"<InitiateMultipartUploadResult><UploadId>u</UploadId>"
            body += b"</InitiateMultipartUploadResult>"
            body = b"" if len(heads) == 3 else body
            caller.say("HTTP/1.1 200 OK", 'etag: "e"', f"content-length: {len(body)}", body=body)

    with scripted(play) as host:
        chosen = S3Settings(bucket="b", endpoint_url=host.url, region="r", **settings)
        store = S3Store(chosen, Credentials("key", "secret"))
        store.put_object("k", memoryview(b"x"), attributes=attributes, txid="t", crc64nvme=0)
        store.create_upload("k", attributes=attributes, txid="t", size=1)
        store.head("k")
        store.close()
    return heads


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        ({"storage_class": "GLACIER_IR"}, "x-amz-storage-class", "GLACIER_IR"),
        ({"storage_class": CLASS_OF_SOURCE}, "x-amz-storage-class", "STANDARD_IA"),
        ({"encryption": "aws:kms"}, "x-amz-server-side-encryption", "aws:kms"),
        (
            {"encryption": "aws:kms", "kms_key_id": "one"},
            "x-amz-server-side-encryption-aws-kms-key-id",
            "one",
        ),
        ({"acl": "bucket-owner-full-control"}, "x-amz-acl", "bucket-owner-full-control"),
    ],
)
def test_it_is_chosen_for_every_new_object(settings: Any, name: str, value: str) -> None:
    put, create, look = heads_of(INFREQUENT, **settings)
    assert (put[name], create[name]) == (value, value)
    assert name not in look
    assert f";{name}" in put["authorization"]


def test_what_the_source_states_is_written_again() -> None:
    stated = {
        "expires": "Thu, 01 Jan 2032 00:00:00 GMT",
        "x-amz-website-redirect-location": "/elsewhere",
        "content-disposition": 'attachment; filename="résumé.pdf"',
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
    }
    attributes = whole_head(stated).attributes
    assert (attributes.storage_class, attributes.encryption) == ("STANDARD_IA", "aws:kms")
    put, create, _ = heads_of(attributes, storage_class=CLASS_OF_SOURCE, encryption="aws:kms")
    for name, value in stated.items():
        assert (put[name], create[name]) == (value, value)


def test_every_request_is_paid_for() -> None:
    assert {head["x-amz-request-payer"] for head in heads_of(Attributes(), request_payer=True)} == {
        "requester"
    }


def test_nothing_is_chosen_unasked() -> None:
    for head in heads_of(INFREQUENT):
        assert not {"x-amz-storage-class", "x-amz-acl", "x-amz-request-payer"} & set(head)
