"""Jobs as one lease sees them: two real containers, a frozen manifest, a route; no Ray, no driver.

    source, target = (stack.enter_context(buckets.take()) for _ in range(2))
    job = stack.enter_context(lease_job(tmp_path / "job", source, target, {"a": 100}))
    receipts = job.receipts(job.run(job.lease()))

A job's objects lie below `from/` at its source and arrive below `to/`; `object_bytes(SEED, ...)`
says what they hold.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from azure.storage.blob import ContainerClient
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from noria.benchmarks.servers import REGION, Azurite, S3Server
from noria.benchmarks.servers.dataset import object_bytes
from noria.manifests.counters import Counter
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.receipts import receipts_of
from noria.manifests.job.results import read_result
from noria.manifests.job.seals import seal
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import Lease, LeaseEnd, LeaseKind, LeaseResult, Receipt
from noria.manifests.passes.delta import DeletionRules, PassDelta
from noria.manifests.passes.migration import migration_of
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.providers import NameRules, limits_for
from noria.workers.context import TransferContext, TransferOptions
from noria.workers.counters import CounterRegistry
from noria.workers.lease.journal import LeaseJournals
from noria.workers.lease.lease import LeaseRun, WorkerResources
from noria.workers.lease.runs import moving_run
from noria.workers.runtime.buffers import BufferPool
from noria.workers.runtime.executors import Executor, make_executor
from noria.workers.runtime.pacing import Pacer, Slot
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.listing import list_objects
from noria.workers.stores.paced import PacedStore, PacedTarget, RetryPolicy
from noria.workers.stores.protocol import Checksum, TargetCapabilities, TargetStore
from noria.workers.stores.s3.store import S3Settings, S3Store
from tests.support.fault_proxy.exchange import Resign
from tests.support.fault_proxy.rules import ProxiedRequest

MIB = 1024 * 1024
SEED = 11
STREAMS = 4
PACER_LIMIT = 8


class Container(Protocol):
    """A bucket or container of a test's own, as its ecosystem's client sees it, past any proxy."""

    @property
    def endpoint(self) -> str:
        """Of the service."""

    @property
    def provider(self) -> str: ...

    @property
    def part_bytes(self) -> int:
        """The smallest size of a part."""

    @property
    def resign(self) -> Resign | None:
        """For run_fault_proxy(). None: signatures cover no headers."""

    def store(self, endpoint: str, *, idle_seconds: float) -> TargetStore:
        """As a worker opens it, with what a probe would find out."""

    def put(self, key: str, body: bytes, *, states_crc: bool = False) -> None:
        """`states_crc`: it will state its CRC64NVME."""

    def get(self, key: str) -> bytes: ...

    def delete(self, key: str) -> None: ...

    def metadata(self, key: str) -> Mapping[str, str]: ...

    def listed(self) -> list[str]: ...

    def open_uploads(self) -> list[str]:
        """Keys with an open multipart upload.

        None in Azure, which drops uncommitted blocks by itself.
        """

    def drop_uploads(self) -> None:
        """As a third party that aborts what open_uploads() says."""


@dataclass
class S3Bucket:
    server: S3Server
    name: str
    client: Any
    provider: str = "seaweedfs"
    part_bytes: int = 5 * MIB

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    def store(self, endpoint: str, *, idle_seconds: float) -> TargetStore:
        settings = S3Settings(
            bucket=self.name, endpoint_url=endpoint, region=REGION, idle_seconds=idle_seconds
        )
        known = TargetCapabilities(
            checksum=Checksum.CRC64NVME,
            if_absent=True,
            atomic_complete=True,
            if_match=True,
            if_match_delete=True,
        )
        return S3Store(settings, self._credentials, known)

    def put(self, key: str, body: bytes, *, states_crc: bool = False) -> None:
        algorithm = "CRC64NVME" if states_crc else "CRC32"
        self.client.put_object(
            Bucket=self.name,
            Key=key,
            Body=body,
            Metadata={"who": "me"},
            ChecksumAlgorithm=algorithm,
        )

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def metadata(self, key: str) -> Mapping[str, str]:
        metadata: Mapping[str, str] = self.client.head_object(Bucket=self.name, Key=key)["Metadata"]
        return metadata

    def listed(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def open_uploads(self) -> list[str]:
        return [upload["Key"] for upload in self._uploads()]

    def drop_uploads(self) -> None:
        for upload in self._uploads():
            self.client.abort_multipart_upload(
                Bucket=self.name, Key=upload["Key"], UploadId=upload["UploadId"]
            )

    def resign(self, request: ProxiedRequest) -> dict[str, str]:
        """The headers of a request that a proxy changed, signed again."""
        old = ("authorization", "x-amz-date", "x-amz-content-sha256")
        headers = {name: value for name, value in request.headers.items() if name not in old}
        url = f"http://{headers['host']}{request.target}"
        changed = AWSRequest(method=request.method, url=url, headers=headers)
        S3SigV4Auth(self._credentials, "s3", REGION).add_auth(changed)
        return {name.lower(): value for name, value in changed.headers.items()}

    @property
    def _credentials(self) -> Credentials:
        return Credentials(self.server.access_key, self.server.secret_key)

    def _uploads(self) -> list[dict[str, str]]:
        uploads: list[dict[str, str]] = self.client.list_multipart_uploads(Bucket=self.name).get(
            "Uploads", []
        )
        return uploads


@dataclass
class AzureContainer:
    server: Azurite
    client: ContainerClient
    provider: str = "azure"
    part_bytes: int = MIB
    resign: None = None

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    def store(self, endpoint: str, *, idle_seconds: float) -> TargetStore:
        settings = AzureSettings(
            account=self.server.account,
            container=self.client.container_name,
            endpoint=endpoint,
            connection_string=self.server.connection_string,
            idle_seconds=idle_seconds,
        )
        known = TargetCapabilities(
            checksum=Checksum.MD5,
            if_absent=True,
            atomic_complete=True,
            if_match=True,
            if_match_delete=True,
        )
        return AzureStore(settings, capabilities=known)  # Azurite checks no CRC64

    def put(self, key: str, body: bytes, *, states_crc: bool = False) -> None:
        if states_crc:
            raise ValueError("Azurite states no CRC64")
        self.client.upload_blob(key, body, overwrite=True, metadata={"who": "me"})

    def get(self, key: str) -> bytes:
        return bytes(self.client.download_blob(key).readall())

    def delete(self, key: str) -> None:
        self.client.delete_blob(key)

    def metadata(self, key: str) -> Mapping[str, str]:
        return self.client.get_blob_client(key).get_blob_properties().metadata

    def listed(self) -> list[str]:
        return [blob.name for blob in self.client.list_blobs()]

    def open_uploads(self) -> list[str]:
        return []

    def drop_uploads(self) -> None:
        pass


class BucketShelf:
    """Buckets of one server, each used by one test after another.

    SeaweedFS allocates volumes at the first writes to a new bucket, which takes it a second.
    """

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self._free: list[S3Bucket] = []

    @contextlib.contextmanager
    def take(self) -> Iterator[S3Bucket]:
        """An empty bucket, which is emptied again after the block."""
        if self._free:
            bucket = self._free.pop()
        else:
            bucket = S3Bucket(self._server, f"b{uuid.uuid4().hex[:12]}", self._server.client())
            bucket.client.create_bucket(Bucket=bucket.name)
        try:
            yield bucket
        finally:
            bucket.drop_uploads()
            for key in bucket.listed():
                bucket.delete(key)
            self._free.append(bucket)

    def close(self) -> None:
        for bucket in self._free:
            bucket.client.delete_bucket(Bucket=bucket.name)
            bucket.client.close()


@contextlib.contextmanager
def azure_container(server: Azurite) -> Iterator[AzureContainer]:
    """A new container, which ends with the block."""
    with server.client() as service:
        client = service.create_container(f"c{uuid.uuid4().hex[:12]}")
        yield AzureContainer(server, client)
        client.delete_container()


class WatchedPacer(Pacer):
    """Remembers how low the limit fell."""

    lowest = float(PACER_LIMIT)

    def on_throttle(self, slot: Slot, asked_seconds: float = 0.0) -> bool:
        others_go_on = super().on_throttle(slot, asked_seconds)
        self.lowest = min(self.lowest, self.limit)
        return others_go_on


@contextlib.contextmanager
def open_executor(places: int = STREAMS) -> Iterator[Executor]:
    """So many transfers at a time, on fibers."""
    with contextlib.closing(make_executor(places, over_network=True)) as executor:
        yield executor


@dataclass
class Job:
    """One job between two containers, with what a test needs to look at it."""

    directory: JobDirectory
    manifest: Manifest
    context: TransferContext
    source: Container
    target: Container
    sizes: dict[str, int]
    attempts: int = 100

    @property
    def pass_number(self) -> int:
        return migration_of(self.directory.root)[1]

    def next_pass(self, changes: Mapping[str, int | None], *, mirror: bool = True) -> Job:
        """Plan the next pass, once this one is sealed, after changes at the source.

        Key -> its new size, or None: it is deleted there. What it holds then, source_bytes() says.
        """
        sizes = dict(self.sizes)
        for key, size in changes.items():
            if size is None:
                self.source.delete(f"from/{key}")
                del sizes[key]
            else:
                self.source.put(f"from/{key}", object_bytes(SEED + self.pass_number, key, 0, size))
                sizes[key] = size
        migration, number = migration_of(self.directory.root)
        directory = JobDirectory.create(migration.place(number + 1), {"id": f"job{number + 1}"})
        manifest = freeze(
            list_objects(self.context.source.inner, "from/"),
            directory.manifest_path,
            source_prefix="from/",
            options=self.manifest.options,
            compare=partial(PassDelta, migration.state(number), DeletionRules(mirror=mirror)),
        )
        context = replace(self.context, job_id=f"job{number + 1}")
        return replace(
            self, directory=directory, manifest=manifest, context=context, sizes=sizes, attempts=100
        )

    def lease(
        self,
        shard: int = 0,
        kind: LeaseKind = LeaseKind.OBJECTS,
        first: int = 0,
        end: int | None = None,
        generation: int = 0,
    ) -> Lease:
        self.attempts += 1
        end = self.manifest.shard(shard).units if end is None else end
        return Lease(
            shard=shard,
            kind=kind,
            first=first,
            end=end,
            attempt=self.attempts,
            generation=generation,
        )

    def set_capabilities(self, **changes: Any) -> None:
        """From now on the target is taken to do this: fields of TargetCapabilities."""
        target = self.context.target
        known = replace(target.capabilities, **changes)
        self.context = replace(self.context, target=target.with_capabilities(known))

    def start(self, lease: Lease, executor: Executor) -> LeaseRun:
        return moving_run(self.resources(executor), lease)

    def resources(self, executor: Executor) -> WorkerResources:
        return WorkerResources(
            directory=self.directory,
            manifest=self.manifest,
            context=self.context,
            executor=executor,
            journals=LeaseJournals(self.directory),
        )

    def run(self, lease: Lease, *, streams: int = STREAMS) -> LeaseResult:
        with open_executor(streams) as executor:
            return self.start(lease, executor).run()

    def receipts(self, result: LeaseResult) -> dict[str, Receipt]:
        """Seal a finished lease; its receipts by key."""
        assert result.how is LeaseEnd.FINISHED, (result.cause, result.message)
        table = read_result(self.directory, seal(self.directory, result))
        return {receipt.key: receipt for receipt in receipts_of(table)}

    def source_bytes(self, key: str) -> bytes:
        """What the object held when it was planned."""
        return object_bytes(SEED + self.pass_number - 1, key, 0, self.sizes[key])

    def target_bytes(self, key: str) -> bytes:
        return self.target.get(f"to/{key}")

    def sent(self) -> float:
        return self.context.counters.total(Counter.BYTES_WRITTEN)


@contextlib.contextmanager
def lease_job(
    folder: Path,
    source: Container,
    target: Container,
    sizes: dict[str, int],
    *,
    source_endpoint: str | None = None,
    target_endpoint: str | None = None,
    states_crc: bool = False,
    segment_bytes: int = 1 << 40,
    idle_seconds: float = 60.0,
    **options: Any,
) -> Iterator[Job]:
    """Fill the source, freeze its listing, open both ends.

    Endpoints are those of proxies, `options` those of TransferOptions, and with `retry_` before
    their name, of RetryPolicy.
    """
    for key, size in sizes.items():
        source.put(f"from/{key}", object_bytes(SEED, key, 0, size), states_crc=states_crc)
    ends = (
        source.store(source_endpoint or source.endpoint, idle_seconds=idle_seconds),
        target.store(target_endpoint or target.endpoint, idle_seconds=idle_seconds),
    )
    directory = JobDirectory.create(folder, {"id": "job"})
    manifest = freeze(
        list_objects(ends[0], "from/"),
        directory.manifest_path,
        source_prefix="from/",
        options=PlanOptions(
            limits=limits_for(target.provider),
            rules=NameRules(),
            target_prefix="to/",
            part_bytes=target.part_bytes,
            chunk_bytes=MIB,
            segment_bytes=segment_bytes,
        ),
    )
    policy = RetryPolicy(
        seconds=options.pop("retry_seconds", 5.0),
        base_seconds=options.pop("retry_base_seconds", 0.2),
        cap_seconds=options.pop("retry_cap_seconds", 20.0),
    )
    counters = CounterRegistry()
    context = TransferContext(
        job_id="job",
        source=PacedStore(
            inner=ends[0],
            policy=policy,
            pacer=WatchedPacer(PACER_LIMIT),
            counters=counters,
            denied_alone=True,
        ),
        target=PacedTarget(
            inner=ends[1], policy=policy, pacer=WatchedPacer(PACER_LIMIT), counters=counters
        ),
        source_prefix="from/",
        target_prefix="to/",
        options=TransferOptions(**{"chunk_bytes": MIB, "range_bytes": 8 * MIB, **options}),
        buffers=BufferPool(64 * MIB),
    )
    try:
        yield Job(directory, manifest, context, source, target, sizes)
    finally:
        for end in ends:
            end.close()
