"""Uploading a workload's objects into Azurite, as fast as it takes them.

Each goes up in one request, since blocks cost Azurite three times the CPU. Large ones lose the MD5
that it then states: as most uploaders write them, in blocks, they have none in Azure either.
"""

from __future__ import annotations

import datetime
import http.client
import threading
import urllib.parse
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from noria.benchmarks.servers import Azurite
from noria.benchmarks.servers.dataset import object_bytes
from noria.benchmarks.suite.workloads import MIB, Sized

SEED = 3
THREADS = 6
LARGE_BYTES = 32 * MIB
PIECE_BYTES = MIB
SIGNATURE_HOURS = 1
API_VERSION = "2023-11-03"


def fill_container(objects: Sequence[Sized], azurite: Azurite, container: str) -> None:
    """Make the container and put all objects in. Raises RuntimeError with Azurite's first no."""
    with azurite.client() as client:
        client.create_container(container)
    door = _Door(azurite, container)
    # The large first, so that none is left over at the end alone.
    by_size = sorted(objects, key=lambda one: one[1], reverse=True)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for _ in pool.map(lambda one: _fill(door, *one), by_size):
                pass
    finally:
        door.close()


def _fill(door: _Door, key: str, size: int) -> None:
    pieces = (
        object_bytes(SEED, key, offset, min(PIECE_BYTES, size - offset))
        for offset in range(0, size, PIECE_BYTES)
    )
    door.put(key, "", {"x-ms-blob-type": "BlockBlob", "content-length": str(size)}, pieces)
    if size > LARGE_BYTES:
        door.put(key, "comp=properties", {"content-length": "0"}, ())


class _Door:
    """The container, with a connection for each thread."""

    def __init__(self, azurite: Azurite, container: str) -> None:
        url = urllib.parse.urlsplit(azurite.endpoint)
        self._host, self._port = str(url.hostname), url.port
        self._path = f"{url.path}/{container}"
        self._signature = generate_container_sas(
            azurite.account,
            container,
            account_key=azurite.key,
            permission=ContainerSasPermissions(create=True, write=True),
            expiry=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=SIGNATURE_HOURS),
        )
        self._own = threading.local()
        self._all: list[http.client.HTTPConnection] = []

    def put(self, key: str, query: str, headers: dict[str, str], body: Iterable[bytes]) -> None:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self._host, self._port)
            self._all.append(self._own.connection)
        target = f"{self._path}/{urllib.parse.quote(key)}?{self._signature}&{query}"
        connection: http.client.HTTPConnection = self._own.connection
        connection.request("PUT", target, body, {"x-ms-version": API_VERSION, **headers})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{answer.status} {said[:300]!r}")

    def close(self) -> None:
        for connection in self._all:
            connection.close()
