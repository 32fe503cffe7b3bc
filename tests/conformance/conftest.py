"""One place on every store: a probed store and a prefix of its own for each test.

With NORIA_CONFORMANCE_URL there is one place instead, below that URL, with the credentials that a
job would find in the environment: `make conformance URL=...`. All that is written there is removed.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials

from noria.benchmarks.servers import Azurite, S3Server
from noria.engine.config.jobfile import EndConfig
from noria.engine.config.stores import open_end
from noria.manifests.errors import NoriaError
from noria.manifests.model import Attributes, PartRecord
from noria.workers.digest import crc64nvme
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.listing import list_objects
from noria.workers.stores.local.store import LocalSettings, LocalStore
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import Checksum, TargetCapabilities, TargetStore, Written
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.probing import probe_target

PLAIN = Attributes()
REAL = os.environ.get("NORIA_CONFORMANCE_URL")
SERVERS = ("azurite", "seaweedfs", "rclone_s3", "local") if REAL is None else ("real",)

RACES = 5
"""Looks at a store until a race has shown what is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """How a store differs beyond what the probe reports."""

    capabilities: TargetCapabilities
    keeps_tags: bool = True
    keeps_metadata_case: bool = False
    ascii_metadata_only: bool = False
    replaces_parts: bool = True
    knows_uploads: bool = True
    """False: parts may be sent at any time, under any upload id."""
    checks_whole: bool = True
    """Refuses to complete an upload under a wrong checksum of the whole."""
    states_part_crc: bool = True
    states_whole_crc: bool = True
    smallest_part: int = 1


ALL = TargetCapabilities(
    checksum=Checksum.CRC64NVME,
    if_absent=True,
    checksum_in_trailer=True,
    atomic_complete=True,
    if_match=True,
    if_match_delete=True,
)

WAYS: Mapping[str, Ways] = {
    "azurite": Ways(
        capabilities=ALL,
        keeps_metadata_case=True,
        ascii_metadata_only=True,
        knows_uploads=False,
        checks_whole=False,
        states_whole_crc=False,
    ),
    "seaweedfs": Ways(
        capabilities=replace(ALL, atomic_complete=False), smallest_part=5 * 1024 * 1024
    ),
    "rclone_s3": Ways(
        capabilities=TargetCapabilities(checksum=Checksum.MD5),
        keeps_tags=False,
        replaces_parts=False,
        checks_whole=False,
        states_part_crc=False,
        states_whole_crc=False,
    ),
    "local": Ways(
        capabilities=replace(ALL, if_match=False, if_match_delete=False),
        keeps_metadata_case=True,
        states_whole_crc=False,
    ),
}

Open = Callable[..., TargetStore]


@dataclass(slots=True, kw_only=True)
class Place:
    """A store, what is known of it, and a prefix that no other test uses."""

    kind: str
    store: TargetStore
    facts: TargetFacts
    ways: Ways
    prefix: str
    missing: str = "missing"
    """The name of a container or bucket that nobody has."""
    _open: Open = field(repr=False)
    _opened: list[TargetStore] = field(default_factory=list)

    @property
    def is_azure(self) -> bool:
        return self.store.provider == "azure"

    def open(self, **changes: object) -> TargetStore:
        """Another store of the same place, with other settings; probed alike, closed at the end."""
        store = self._open(**changes).with_capabilities(self.facts.capabilities)
        self._opened.append(store)
        return store

    def key(self, name: str) -> str:
        return self.prefix + name

    def put(
        self,
        name: str,
        body: bytes,
        attributes: Attributes = PLAIN,
        *,
        txid: str = "job.0.1.1",
        store: TargetStore | None = None,
        replaces: str | None = None,
    ) -> Written:
        return (store or self.store).put_object(
            self.key(name),
            memoryview(body),
            attributes=self._writable(attributes),
            txid=txid,
            crc64nvme=crc64nvme(body),
            replaces=replaces,
        )

    def overwrite(self, name: str, body: bytes) -> Written:
        """As another writer would, who asks for no conditions."""
        heedless = replace(self.facts.capabilities, if_absent=False)
        return self.put(name, body, store=self.store.with_capabilities(heedless))

    def read(self, name: str) -> bytes:
        """The whole object, as large as HEAD says."""
        head = self.store.head(self.key(name))
        assert head is not None
        into = memoryview(bytearray(head.size))
        self.store.read_object(self.key(name), into=into, etag=head.etag)
        return bytes(into)

    def create(self, name: str, size: int, attributes: Attributes = PLAIN) -> str:
        return self.store.create_upload(
            self.key(name), attributes=self._writable(attributes), txid="job.0.2.1", size=size
        )

    def part(self, name: str, upload_id: str, number: int, body: bytes) -> PartRecord:
        crc = crc64nvme(body)
        written = self.store.put_part(
            self.key(name),
            upload_id,
            number,
            memoryview(body),
            size=len(body),
            crc64nvme=lambda: crc,
        )
        assert written.crc64nvme in (None, crc)
        return PartRecord(
            number=number, size=len(body), etag=written.etag, crc64nvme=crc, chunks=b""
        )

    def complete(
        self,
        name: str,
        upload_id: str,
        parts: list[PartRecord],
        body: bytes,
        attributes: Attributes = PLAIN,
        *,
        store: TargetStore | None = None,
        replaces: str | None = None,
    ) -> Written:
        return (store or self.store).complete_upload(
            self.key(name),
            upload_id,
            parts,
            size=len(body),
            crc64nvme=crc64nvme(body),
            attributes=self._writable(attributes),
            txid="job.0.2.1",
            replaces=replaces,
        )

    def _writable(self, attributes: Attributes) -> Attributes:
        """Without tags if the store has none: some refuse the whole write."""
        return attributes if self.ways.keeps_tags else replace(attributes, tags={})

    def close(self) -> None:
        for store in self._opened:
            store.close()
        self._opened.clear()


def _azure_open(server: Azurite, container: str) -> Open:
    settings = AzureSettings(
        account=server.account, container=container, connection_string=server.connection_string
    )
    return lambda **changes: AzureStore(replace(settings, **changes))


def _s3_open(server: S3Server, bucket: str) -> Open:
    settings = S3Settings(bucket=bucket, endpoint_url=server.endpoint, region="us-east-1")

    def open_store(*, secret_key: str = server.secret_key, **changes: Any) -> TargetStore:
        credentials = Credentials(server.access_key, secret_key)
        return S3Store(replace(settings, **changes), credentials)

    return open_store


def _real_open(url: str) -> tuple[Open, str]:
    """How a job would open the store at this URL, and the prefix."""
    end = EndConfig(url=url)
    first = open_end(end)
    settings = private(first)._settings
    first.close()

    def open_store(*, secret_key: str | None = None, **changes: Any) -> TargetStore:
        if isinstance(settings, AzureSettings):
            return AzureStore(replace(settings, **changes))
        wrong = None if secret_key is None else Credentials("nobody", secret_key)
        return S3Store(replace(settings, **changes), wrong)

    return open_store, end.location.prefix


def _real_ways(store: TargetStore, facts: TargetFacts) -> Ways:
    """What is to be expected of a store of which only the probe has told something."""
    azure = store.provider == "azure"
    has_crc = facts.capabilities.checksum is Checksum.CRC64NVME
    return Ways(
        capabilities=facts.capabilities,
        keeps_tags=facts.keeps_tags is True,
        ascii_metadata_only=azure,
        knows_uploads=not azure,
        checks_whole=has_crc and not azure,
        states_part_crc=has_crc,
        states_whole_crc=has_crc and not azure,
        smallest_part=1 if azure else 5 * 1024 * 1024,
    )


def _remove_all(store: TargetStore, prefix: str) -> None:
    with contextlib.suppress(NoriaError):
        for upload in store.list_uploads(prefix):
            store.abort_upload(upload.key, upload.upload_id)
    keys = [key for batch in list_objects(store, prefix) for key in batch["key"].to_pylist()]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(store.delete_object, keys))


def _open_at(kind: str, request: pytest.FixtureRequest, folder: Path) -> Open:
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    if kind == "local":
        settings = LocalSettings(root=folder)
        return lambda **changes: LocalStore(replace(settings, **changes))
    server = request.getfixturevalue(kind)
    if kind == "azurite":
        with server.client() as client:
            client.create_container(name)
        return _azure_open(server, name)
    client = server.client()
    client.create_bucket(Bucket=name)
    client.close()
    return _s3_open(server, name)


def private(store: object) -> Any:
    """A store, for a look at what it keeps to itself."""
    return store


@contextlib.contextmanager
def _real_home(url: str) -> Iterator[Place]:
    open_store, prefix = _real_open(url)
    store = open_store()
    prefix = f"{prefix}noria-conformance-{uuid.uuid4().hex[:12]}/"
    store.check_access(prefix)
    try:
        facts = probe_target(store, prefix, "session")
        yield Place(
            kind="real",
            store=store.with_capabilities(facts.capabilities),
            facts=facts,
            ways=_real_ways(store, facts),
            prefix=prefix,
            missing=f"noria-{uuid.uuid4().hex}",
            _open=open_store,
        )
    finally:
        _remove_all(store, prefix)
        store.close()


@pytest.fixture(scope="session", params=SERVERS)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """One container, bucket or folder of each kind, probed once."""
    kind = request.param
    if REAL is not None:
        with _real_home(REAL) as home:
            yield home
        return
    open_store = _open_at(kind, request, tmp_path_factory.mktemp("root"))
    store = open_store()
    store.check_access()
    facts = probe_target(store, "", "session")
    for _ in range(RACES):
        if facts.capabilities.atomic_complete == WAYS[kind].capabilities.atomic_complete:
            break
        # What one race misses, another one shows: in SeaweedFS's first seconds none is close.
        facts = probe_target(store, "", "session")
    store = store.with_capabilities(facts.capabilities)
    yield Place(kind=kind, store=store, facts=facts, ways=WAYS[kind], prefix="", _open=open_store)
    store.close()


@pytest.fixture
def place(home: Place) -> Iterator[Place]:
    mine = replace(home, prefix=f"{home.prefix}{uuid.uuid4().hex}/", _opened=[])
    yield mine
    mine.close()
