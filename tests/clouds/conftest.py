"""A lake at the servers as they are, and the clouds it moves to and from."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from azure.storage.blob import BlobServiceClient

from noria.benchmarks.servers import Azurite, S3Server
from noria.benchmarks.servers.dataset import ObjectSpec, object_bytes, upload_azure, upload_s3
from tests.clouds.profiles import CloudProfile
from tests.clouds.proxy import CloudProxy, run_cloud, signed_again
from tests.support.moves import NORIA, RUN_SECONDS, SEED

MIB = 1024 * 1024
ODD_NAMES = (
    "spaces/two  in a row.txt",
    "signs/plus+and&more=;,.csv",
    "signs/100%25 (1).txt",
    "question?/hash#.bin",
    'quote\'s/"double".txt',
    "ünï/ço dé/漢字.json",
    "~tilde/!$@:[].x",
)
TAGGED = ("hot/00", "hot/01", "large")
TAGS = {"project": "lake 1", "level": "a/b"}
METADATA = {"owner": "someone", "note": "a=b; c, d"}
OURS = ("noriatxid", "mtime")


def _spec(key: str, size: int) -> ObjectSpec:
    return ObjectSpec(
        key=key,
        size=size,
        content_type="text/csv",
        metadata=METADATA,
        tags=TAGS if key in TAGGED else {},
    )


LAKE = [
    *(_spec(f"hot/{number:02}", 1000 + number) for number in range(12)),
    *(_spec(f"cold/{number:02}", 900 * (number % 4)) for number in range(8)),
    *(_spec(name, 300) for name in ODD_NAMES),
    _spec("large", 20 * MIB),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What stands under one name."""

    body: bytes
    metadata: Mapping[str, str]
    content_type: str | None
    tags: Mapping[str, str]


def _own(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {name: value for name, value in (metadata or {}).items() if name not in OURS}


@dataclass(slots=True, kw_only=True)
class Lakes:
    """Two servers, one container and two buckets: what a cloud is played with."""

    azurite: Azurite
    seaweedfs: S3Server
    folder: Path
    containers: list[str] = field(default_factory=list)
    buckets: list[str] = field(default_factory=list)

    def place(self, *, azure: bool) -> str:
        """The URL of a new, empty container or bucket."""
        name = f"cloud-{uuid.uuid4().hex}"
        if azure:
            with self.azurite.client() as client:
                client.create_container(name)
            self.containers.append(name)
            return f"az://{self.azurite.account}/{name}"
        client = self.seaweedfs.client()
        client.create_bucket(Bucket=name)
        client.close()
        self.buckets.append(name)
        return f"s3://{name}"

    def fill(self, url: str) -> None:
        name = url.rpartition("/")[2]
        if url.startswith("az:"):
            upload_azure(LAKE, self.azurite.connection_string, name, SEED)
            return
        client = self.seaweedfs.client()
        upload_s3(LAKE, client, name, SEED)
        client.close()

    def found(self, url: str) -> dict[str, Found]:
        """What stands there, by name, as the server's own client reads it."""
        name = url.rpartition("/")[2]
        return self._blobs(name) if url.startswith("az:") else self._objects(name)

    def _blobs(self, name: str) -> dict[str, Found]:
        text = self.azurite.connection_string
        with BlobServiceClient.from_connection_string(text) as service:
            container = service.get_container_client(name)
            found = {}
            for blob in container.list_blobs(include=["metadata", "tags"]):
                found[blob.name] = Found(
                    body=container.download_blob(blob.name).readall(),
                    metadata=_own(blob.metadata),
                    content_type=blob.content_settings.content_type,
                    tags=blob.tags or {},
                )
            return found

    def _objects(self, name: str) -> dict[str, Found]:
        client = self.seaweedfs.client()
        found = {}
        for item in client.list_objects_v2(Bucket=name).get("Contents", ()):
            read = client.get_object(Bucket=name, Key=item["Key"])
            tags = client.get_object_tagging(Bucket=name, Key=item["Key"])["TagSet"]
            found[item["Key"]] = Found(
                body=read["Body"].read(),
                metadata=_own(read["Metadata"]),
                content_type=read["ContentType"],
                tags={tag["Key"]: tag["Value"] for tag in tags},
            )
        assert not client.list_multipart_uploads(Bucket=name).get("Uploads")
        client.close()
        return found

    def move(
        self,
        source: str,
        target: str,
        cloud: CloudProxy,
        *,
        at_cloud: Literal["source", "target"],
        provider: str = "s3",
        run: Mapping[str, Any] | None = None,
        exit_code: int = 0,
    ) -> dict[str, Any]:
        """Run a job whose end `at_cloud` is reached through the proxy, with default settings.

        `provider` stands for the host's name, which a proxy cannot have.
        """
        ends: dict[str, dict[str, Any]] = {"source": {"url": source}, "target": {"url": target}}
        end, environment = ends[at_cloud], {}
        end["endpoint"] = cloud.endpoint
        if end["url"].startswith("az:"):
            variable = f"NORIA_{at_cloud.upper()}_AZURE_STORAGE_CONNECTION_STRING"
            own = self.azurite.connection_string
            environment[variable] = own.replace(self.azurite.endpoint, cloud.endpoint)
        elif provider != "s3":
            end["provider"] = provider
        return self.run(
            ends["source"], ends["target"], run=run, environment=environment, exit_code=exit_code
        )

    def run(
        self,
        source: Mapping[str, Any],
        target: Mapping[str, Any],
        *,
        run: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        exit_code: int = 0,
    ) -> dict[str, Any]:
        """Run one job between two ends to its end; return what it printed."""
        job = self.folder / f"job-{uuid.uuid4().hex[:6]}.toml"
        sections = {
            "source": source,
            "target": target,
            "run": {"metrics_address": "off", **(run or {})},
        }
        lines = []
        for name, section in sections.items():
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in section.items()]
        job.write_text("\n".join(lines) + "\n")
        servers = {**self.azurite.env(), **self.seaweedfs.env()}
        ended = subprocess.run(
            [NORIA, "run", job, "--json"],
            env={**os.environ, **servers, **(environment or {})},
            text=True,
            capture_output=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert ended.returncode == exit_code, f"{ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        document: dict[str, Any] = json.loads(ended.stdout)
        return document


def lake_with(*, tags: bool) -> dict[str, Found]:
    """The lake as it is to be found."""
    return {
        spec.key: Found(
            body=object_bytes(SEED, spec.key, 0, spec.size),
            metadata=dict(spec.metadata),
            content_type=spec.content_type,
            tags=dict(spec.tags) if tags else {},
        )
        for spec in LAKE
    }


@pytest.fixture
def lakes(azurite: Azurite, seaweedfs: S3Server, tmp_path: Path) -> Iterator[Lakes]:
    lakes = Lakes(azurite=azurite, seaweedfs=seaweedfs, folder=tmp_path)
    yield lakes
    with azurite.client() as service:
        for name in lakes.containers:
            service.delete_container(name)
    client = seaweedfs.client()
    for name in lakes.buckets:
        client.delete_bucket(Bucket=name)
    client.close()


@pytest.fixture
def play(lakes: Lakes) -> Iterator[Callable[[CloudProfile], CloudProxy]]:
    """play(profile): the cloud, before the server that stands in for it."""
    with contextlib.ExitStack() as stack:

        def start(profile: CloudProfile) -> CloudProxy:
            server = lakes.azurite if profile.azure else lakes.seaweedfs
            resign = None if profile.azure else signed_again(lakes.seaweedfs)
            return stack.enter_context(run_cloud(profile, server.endpoint, resign=resign))

        yield start
