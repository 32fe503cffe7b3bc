"""Listings of accounts that begin after a name, that ignore it, and that refuse it.

Azurite has no `startFrom`, so this stands in for an account: names, in pages, and nothing else.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import START_API_VERSION, AzureStore
from noria.workers.stores.listing import list_objects

PAGE_BLOBS = 20
NAMES = sorted(f"{hashlib.md5(b'%d' % n, usedforsecurity=False).hexdigest()}" for n in range(2_000))
Way = Literal["honours", "ignores", "refuses"]


class ListedAccount(http.server.ThreadingHTTPServer):
    """Answers List Blobs; `startFrom` with an API version that has it, in its own way."""

    daemon_threads = True

    def __init__(self, way: Way, *, foreign_markers: bool) -> None:
        super().__init__(("127.0.0.1", 0), _ListRequest)
        self.way = way
        self.foreign_markers = foreign_markers
        self.asked: list[tuple[str, dict[str, str]]] = []


class _ListRequest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ListedAccount

    def do_GET(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.server.asked.append((self.headers["x-ms-version"], query))
        start = query.get("startFrom")
        if start is not None and self.server.way == "refuses":
            self._send(400, b"<Error><Code>InvalidHeaderValue</Code></Error>")
            return
        prefix = query.get("prefix", "")
        names = [name for name in NAMES if name.startswith(prefix)]
        if start is not None and self.server.way == "honours":
            names = [name for name in names if name >= start]
        owner, _, place = query.get("marker", "").partition("!")
        if place and owner != prefix and not self.server.foreign_markers:
            self._send(400, b"<Error><Code>OutOfRangeInput</Code></Error>")
            return
        names = [name for name in names if name >= place]
        page, rest = names[:PAGE_BLOBS], names[PAGE_BLOBS:]
        blobs = "".join(
            f"<Blob><Name>{name}</Name><Properties><Content-Length>7</Content-Length>"
            "<Etag>0x1</Etag><BlobType>BlockBlob</BlobType></Properties></Blob>"
            for name in page
        )
        marker = f"{prefix}!{rest[0]}" if rest else ""
        self._send(
            200,
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>{blobs}</Blobs>'
            f"<NextMarker>{marker}</NextMarker></EnumerationResults>".encode(),
        )

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status == 400:
            self.send_header("x-ms-error-code", body.split(b"Code>")[1].strip(b"</").decode())
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def account(
    way: Way, *, foreign_markers: bool = True
) -> Iterator[tuple[ListedAccount, AzureStore]]:
    with ListedAccount(way, foreign_markers=foreign_markers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        settings = AzureSettings(
            account="listed",
            container="data",
            endpoint=f"http://127.0.0.1:{server.server_address[1]}",
            anonymous=True,
            allow_plain_http=True,
        )
        store = AzureStore(settings)
        try:
            yield server, store
        finally:
            store.close()
            server.shutdown()
            thread.join()


def names_of(store: AzureStore, streams: int) -> list[str]:
    batches = list_objects(store, "", streams=streams)
    return sorted(name for batch in batches for name in batch["key"].to_pylist())


@pytest.mark.parametrize("foreign_markers", [True, False])
@pytest.mark.parametrize("way", ["honours", "ignores", "refuses"])
def test_a_flat_container_in_pieces(way: Way, foreign_markers: bool) -> None:
    with account(way, foreign_markers=foreign_markers) as (server, store):
        assert names_of(store, 8) == NAMES
        started = [version for version, query in server.asked if "startFrom" in query]
        assert set(started) == {START_API_VERSION}
        if way == "honours":
            assert len(started) > 10
        else:
            assert len(started) <= 8, "asked no more once an answer has shown it"
            assert {query.get("prefix", "") for _, query in server.asked} > {""}


def test_one_stream_asks_for_no_start() -> None:
    with account("refuses") as (server, store):
        assert names_of(store, 1) == NAMES
        assert not [query for _, query in server.asked if "startFrom" in query]


def test_the_name_that_a_page_starts_from_is_not_listed_again() -> None:
    with account("honours") as (_, store):
        batches = list_objects(store, "", streams=8, splits=NAMES[::100])
        assert sorted(name for batch in batches for name in batch["key"].to_pylist()) == NAMES
