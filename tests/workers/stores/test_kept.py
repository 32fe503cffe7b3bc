"""What stores keep besides what a listing shows, counted: versions, snapshots, soft-deleted."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from botocore.credentials import Credentials

from noria.benchmarks.servers import Azurite, S3Server
from noria.manifests.errors import StoreUnavailable
from noria.workers.stores.azure import xml as azure_xml
from noria.workers.stores.azure.settings import AzureSettings
from noria.workers.stores.azure.store import AzureStore
from noria.workers.stores.inspection import KeptCounts, KeptKind
from noria.workers.stores.s3.store import S3Settings, S3Store

PAGE = """<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>
<Blob><Name>a</Name><VersionId>1</VersionId><Properties><Content-Length>5</Content-Length>
</Properties></Blob>
<Blob><Name>a</Name><VersionId>2</VersionId><IsCurrentVersion>true</IsCurrentVersion><Properties>
<Content-Length>7</Content-Length></Properties></Blob>
<Blob><Name>b</Name><Deleted>true</Deleted><Properties><Content-Length>11</Content-Length>
</Properties></Blob>
<Blob><Name>c</Name><Snapshot>2026-11-28T00:00:00Z</Snapshot><Properties>
<Content-Length>13</Content-Length></Properties></Blob>
<Blob><Name>c</Name><Properties><Content-Length>13</Content-Length></Properties></Blob>
</Blobs><NextMarker/></EnumerationResults>"""


def test_a_page_of_azure_is_told_apart_by_kind() -> None:
    counts = KeptCounts(KeptKind)
    assert azure_xml.count_kept(ElementTree.fromstring(PAGE), counts) is not None
    assert (counts.objects, counts.bytes) == (
        {"versions": 1, "markers": 0, "snapshots": 1, "deleted": 1},
        {"versions": 5, "markers": 0, "snapshots": 13, "deleted": 11},
    )


@pytest.mark.parametrize("text", ["<Error/>", "<EnumerationResults/>", PAGE.replace(">5<", ">x<")])
def test_what_is_no_page_is_no_count(text: str) -> None:
    with pytest.raises(StoreUnavailable):
        azure_xml.count_kept(ElementTree.fromstring(text), KeptCounts(KeptKind))


@pytest.fixture
def container(azurite: Azurite) -> Iterator[str]:
    name = f"kept-{secrets.token_hex(4)}"
    with azurite.client() as client:
        client.create_container(name)
        yield name
        client.delete_container(name)


def test_snapshots_of_azure(azurite: Azurite, container: str) -> None:
    with azurite.client() as client:
        for key in ("p/a", "p/b", "q"):
            blob = client.get_blob_client(container, key)
            blob.upload_blob(b"five.")
            for _ in range(2):
                blob.create_snapshot()
                blob.set_blob_metadata({"x": secrets.token_hex(2)})
    settings = AzureSettings(
        account=azurite.account,
        container=container,
        connection_string=azurite.connection_string,
    )
    store = AzureStore(settings)
    counts = store.count_kept("p/")
    store.close()
    assert counts.objects[KeptKind.SNAPSHOT] == 4
    assert counts.bytes[KeptKind.SNAPSHOT] == 20


def test_versions_of_s3_over_pages(seaweedfs: S3Server) -> None:
    bucket = f"kept-{secrets.token_hex(4)}"
    client = seaweedfs.client()
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("p/a", "p/b", "q"):
        for body in (b"1", b"22", b"333"):
            client.put_object(Bucket=bucket, Key=key, Body=body)
    client.delete_object(Bucket=bucket, Key="p/b")
    client.close()
    settings = S3Settings(
        bucket=bucket, endpoint_url=seaweedfs.endpoint, region="us-east-1", page_keys=2
    )
    store = S3Store(settings, Credentials(seaweedfs.access_key, seaweedfs.secret_key))
    counts = store.count_kept("p/")
    store.close()
    assert counts.objects == {KeptKind.VERSION: 5, KeptKind.MARKER: 1}
    assert counts.bytes[KeptKind.VERSION] == 1 + 2 + 1 + 2 + 3
