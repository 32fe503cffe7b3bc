from __future__ import annotations

import time
from datetime import datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from noria.workers.digest import crc64nvme
from noria.workers.stores.s3.aws_chunked import (
    FRAME_BYTES,
    PayloadCount,
    encoded_bytes,
    with_trailer,
)
from noria.workers.stores.s3.sigv4 import Signer, SigningKeys
from tests.support.poured import poured

HOST = "bucket.s3.fr-par.scw.cloud"


def authorization_of_botocore(
    method: str, path: str, query: str, headers: dict[str, str], token: str | None
) -> str:
    url = f"https://{HOST}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, headers=headers)
    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
    S3SigV4Auth(Credentials("AK", "secret", token), "s3", "fr-par").add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("token", [None, "session"])
@pytest.mark.parametrize(
    ("method", "path", "query", "headers"),
    [
        ("GET", "/plain", "", {}),
        ("PUT", "/a%20b/%C3%A9%2B~", "", {"x-amz-meta-a": "two  words ", "content-type": "a/b"}),
        ("GET", "/", "list-type=2&prefix=a%2Fb%20c", {}),
        ("POST", "/k", "uploads=", {"x-amz-checksum-algorithm": "CRC64NVME"}),
        ("GET", "/k", "", {"range": "bytes=0-1", "if-match": '"e"'}),
        ("PUT", "/k", "", {"x-amz-meta-u": "é漢"}),
    ],
)
def test_the_same_signature_as_botocore(
    method: str,
    path: str,
    query: str,
    headers: dict[str, str],
    token: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.gmtime(1_795_467_600)
    monkeypatch.setattr("time.gmtime", lambda *_: now)
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime",
        lambda *_, **__: datetime(*now[:6]),  # noqa: DTZ001 - as botocore has it
    )
    keys = SigningKeys(access_key="AK", secret_key="secret", token=token)
    signer = Signer(HOST, "fr-par", lambda: keys)
    ours = signer.sign(method, path, query, headers)
    assert ours["authorization"] == authorization_of_botocore(method, path, query, headers, token)
    again = signer.sign(method, path, query, headers)
    assert again == ours
    assert "secret" not in repr(keys)


def test_keys_that_change_are_used_at_once() -> None:
    held = [SigningKeys(access_key="AK", secret_key="one")]
    signer = Signer(HOST, "fr-par", lambda: held[0])
    first = signer.sign("GET", "/", "", {})
    held[0] = SigningKeys(access_key="AK", secret_key="two")
    assert signer.sign("GET", "/", "", {})["authorization"] != first["authorization"]


@pytest.mark.parametrize("size", [0, 1, 15, 16, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES - 1])
@pytest.mark.parametrize("slice_bytes", [1_000_000, 7 * FRAME_BYTES])
def test_a_trailer_is_as_long_as_announced(size: int, slice_bytes: int) -> None:
    view = memoryview(bytes(size))
    slices = [view[start : start + slice_bytes] for start in range(0, size, slice_bytes)]
    coded = bytearray()
    name = "x-amz-checksum-crc64nvme"
    sent: list[int] = []
    payload = PayloadCount(sent.append)

    def send(piece: memoryview | bytes) -> None:
        coded.extend(piece)
        payload.note_sent(len(piece))

    with_trailer(poured(slices), size, name, lambda: crc64nvme(view), payload)(send)
    assert sum(sent) == size, "what is sent of the coding is not sent of the body"
    assert len(coded) == encoded_bytes(size, "x-amz-checksum-crc64nvme")
    assert coded.count(b"\0") == size
    assert coded.endswith(b"=\r\n\r\n")
    assert b"0\r\nx-amz-checksum-crc64nvme:" in coded


def test_a_body_that_is_too_long_for_its_frames_is_refused() -> None:
    body = with_trailer(poured([memoryview(b"12345")]), 4, "h", lambda: 0, PayloadCount(None))
    with pytest.raises(ValueError, match="announced"):
        body(bytearray().extend)
