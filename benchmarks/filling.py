"""Uploading a workload's objects into Azurite, as fast as it takes them.

As most uploaders do, large ones go up in blocks, so that they bear no MD5; small ones go up whole,
and Azurite states theirs, as Azure does.
"""

from __future__ import annotations

import base64
import datetime
import http.client
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from benchmarks.dataset import object_bytes
from benchmarks.workloads import MIB, Sized
from tests.servers import Azurite

SEED = 3
THREADS = 8
BLOCK_BYTES = 32 * MIB
SIGNATURE_HOURS = 1
API_VERSION = "2023-11-03"


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one request carries: a whole object, or one block of a larger one."""

    key: str
    offset: int
    length: int
    block: str | None


def fill_container(objects: Sequence[Sized], azurite: Azurite, container: str) -> None:
    """Make the container and put all objects in. Raises RuntimeError with Azurite's first no."""
    with azurite.client() as client:
        client.create_container(container)
    door = _Door(azurite, container)
    with ThreadPoolExecutor(THREADS) as pool:
        # The large first, so that none is left over at the end alone.
        by_size = sorted(objects, key=lambda one: one[1], reverse=True)
        pieces = [piece for key, size in by_size for piece in _pieces(key, size)]
        for _ in pool.map(lambda piece: _put(door, piece), pieces):
            pass
        larger = [one for one in objects if one[1] > BLOCK_BYTES]
        for _ in pool.map(lambda one: _commit(door, *one), larger):
            pass
    door.close()


def _pieces(key: str, size: int) -> Iterator[_Piece]:
    if size <= BLOCK_BYTES:
        yield _Piece(key, 0, size, None)
        return
    for number, offset in enumerate(range(0, size, BLOCK_BYTES)):
        yield _Piece(key, offset, min(BLOCK_BYTES, size - offset), _block_id(number))


def _block_id(number: int) -> str:
    return base64.b64encode(f"{number:08}".encode()).decode()


def _put(door: _Door, piece: _Piece) -> None:
    body = object_bytes(SEED, piece.key, piece.offset, piece.length)
    if piece.block is None:
        door.put(piece.key, {}, body, {"x-ms-blob-type": "BlockBlob"})
    else:
        door.put(piece.key, {"comp": "block", "blockid": piece.block}, body, {})


def _commit(door: _Door, key: str, size: int) -> None:
    ids = "".join(f"<Latest>{piece.block}</Latest>" for piece in _pieces(key, size))
    door.put(key, {"comp": "blocklist"}, f"<BlockList>{ids}</BlockList>".encode(), {})


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

    def put(self, key: str, query: dict[str, str], body: bytes, headers: dict[str, str]) -> None:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(self._host, self._port)
            self._all.append(self._own.connection)
        target = f"{self._path}/{urllib.parse.quote(key)}?{self._signature}"
        if query:
            target += "&" + urllib.parse.urlencode(query)
        connection: http.client.HTTPConnection = self._own.connection
        connection.request("PUT", target, body, {"x-ms-version": API_VERSION, **headers})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 201:
            raise RuntimeError(f"{answer.status} {said[:300]!r}")

    def close(self) -> None:
        for connection in self._all:
            connection.close()
