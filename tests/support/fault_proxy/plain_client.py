"""A plain HTTP client of one store behind a fault proxy."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from azure.storage.blob import generate_container_sas

from noria.benchmarks.servers import Azurite, S3Server
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy

BODY = bytes(range(256)) * 1024


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Plain:
    """One kept connection to the proxy, and the store behind it."""

    proxy: FaultProxy
    url: Callable[[str, str], str]
    """Method and key -> a signed URL."""
    stored: Callable[[str], bytes | None]
    """What the store has, asked past the proxy."""
    put_headers: dict[str, str] = field(default_factory=dict)
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        host = urlsplit(self.proxy.endpoint).netloc
        self.connection = http.client.HTTPConnection(host, timeout=10)

    def send(
        self, method: str, key: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        url = urlsplit(self.url(method, key))
        sent = {**(self.put_headers if method == "PUT" else {}), **(headers or {})}
        try:
            self.connection.request(method, f"{url.path}?{url.query}", body=body, headers=sent)
            reply = self.connection.getresponse()
            fields = {name.lower(): value for name, value in reply.getheaders()}
            return Reply(reply.status, fields, reply.read())
        except BaseException:
            self.connection.close()
            raise

    def put(self, key: str, body: bytes = BODY) -> None:
        assert self.send("PUT", key, body).status in (200, 201)


@contextlib.contextmanager
def plain_s3(server: S3Server, bucket: str, seed: int = 0) -> Iterator[Plain]:
    client = server.client()
    with run_fault_proxy(server.endpoint, seed=seed) as proxy:
        signer = server.client(endpoint=proxy.endpoint)

        def url(method: str, key: str) -> str:
            purpose = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object"}[method]
            return str(signer.generate_presigned_url(purpose, {"Bucket": bucket, "Key": key}))

        def stored(key: str) -> bytes | None:
            try:
                return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
            except client.exceptions.NoSuchKey:
                return None

        plain = Plain(proxy, url, stored)
        yield plain
        plain.connection.close()
        signer.close()
    client.close()


@contextlib.contextmanager
def plain_azure(server: Azurite, container: str, seed: int = 0) -> Iterator[Plain]:
    sas = generate_container_sas(
        server.account,
        container,
        account_key=server.key,
        permission="rwl",
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    with server.client() as client, run_fault_proxy(server.endpoint, seed=seed) as proxy:

        def stored(key: str) -> bytes | None:
            blob = client.get_blob_client(container, key)
            return bytes(blob.download_blob().readall()) if blob.exists() else None

        def url(method: str, key: str) -> str:
            return f"{proxy.endpoint}/{container}/{quote(key)}?{sas}"

        plain = Plain(proxy, url, stored, {"x-ms-blob-type": "BlockBlob"})
        yield plain
        plain.connection.close()
