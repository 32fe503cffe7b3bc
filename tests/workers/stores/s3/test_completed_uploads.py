"""How servers spell that an upload is completed, and what is no such answer."""

from __future__ import annotations

import pytest
from botocore.credentials import Credentials

from noria.manifests.errors import NoriaError
from noria.manifests.model import Attributes, PartRecord
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.scripted import Caller, scripted

PART = PartRecord(number=1, size=1, etag="p", crc64nvme=0, chunks=b"")


def completed(answer: bytes) -> str:
    """The ETag of an upload whose completion a server answered with this document."""

    def play(caller: Caller) -> None:
        lines = caller.request().decode().lower().split("\r\n")
        (length,) = (line.split(": ")[1] for line in lines if line.startswith("content-length"))
        caller.body(int(length))
        caller.say("HTTP/1.1 200 OK", f"content-length: {len(answer)}", body=answer)

    with scripted(play) as host:
        settings = S3Settings(bucket="b", endpoint_url=host.url, region="r")
        store = S3Store(settings, Credentials("key", "secret"))
        try:
            written = store.complete_upload(
                "k", "u", [PART], size=1, crc64nvme=0, attributes=Attributes(), txid="t"
            )
        finally:
            store.close()
    return written.etag


@pytest.mark.parametrize("root", ["Result", "Response"])
def test_a_completed_upload_is_known_in_both_spellings(root: str) -> None:
    """Amazon writes the one, moto the other."""
    name = f"CompleteMultipartUpload{root}"
    assert completed(f'<{name}><ETag>"e-1"</ETag></{name}>'.encode()) == "e-1"


@pytest.mark.parametrize(
    "answer",
    [
        b"<Error><Code>InternalError</Code><ETag>e</ETag></Error>",
        b"<CompleteMultipartUploadResult/>",
        b"<html><ETag>e</ETag></html>",
        b"",
    ],
)
def test_no_other_answer_is_a_success(answer: bytes) -> None:
    with pytest.raises(NoriaError):
        completed(answer)
