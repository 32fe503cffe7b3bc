"""Real servers, filled and speaking https, as a benchmark finds them."""

from __future__ import annotations

import boto3
import pytest
from azure.storage.blob import BlobServiceClient
from botocore.config import Config

from noria.benchmarks.servers import REGION, Azurite
from noria.benchmarks.servers.dataset import object_bytes
from noria.benchmarks.suite.beds import run_null_bed, run_real_beds
from noria.benchmarks.suite.sources import LARGE_BYTES, SEED, fill_container
from noria.benchmarks.suite.tools import Ends
from noria.benchmarks.suite.workloads import Workload

OBJECTS = (("small & odd/a", 5), ("empty", 0), ("large", LARGE_BYTES + 7))


def test_filling_writes_what_the_seed_says(azurite: Azurite) -> None:
    fill_container(OBJECTS, azurite, "filled")
    with azurite.client() as service:
        container = service.get_container_client("filled")
        for key, size in OBJECTS:
            blob = container.download_blob(key)
            assert blob.readall() == object_bytes(SEED, key, 0, size)
            stated = blob.properties.content_settings.content_md5
            assert (stated is None) == (size > LARGE_BYTES)
        container.delete_container()


def put(ends: Ends, key: str, body: bytes) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=ends.endpoint,
        region_name=REGION,
        aws_access_key_id=ends.access_key,
        aws_secret_access_key=ends.secret_key,
        verify=None if ends.ca_bundle is None else str(ends.ca_bundle),
        # Else the body goes out in chunks over https, which the null sink does not take.
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
        ),
    )
    client.put_object(Bucket=ends.bucket, Key=key, Body=body)
    client.close()


def test_both_ends_speak_https_that_the_ca_vouches_for() -> None:
    workload = Workload(name="tls", kind="small", title="tls", objects=(("a/b", 3), ("c", 4)))
    with run_real_beds([workload], tls=True) as [test_bed], test_bed.fresh_ends() as ends:
        assert ends.connection_string.count("https://") == 1
        with BlobServiceClient.from_connection_string(
            ends.connection_string, connection_verify=str(ends.ca_bundle)
        ) as service:
            names = list(service.get_container_client(ends.container).list_blob_names())
        assert names == ["a/b", "c"]
        assert test_bed.arrived(ends) == (0, 0)
        put(ends, "arrived", b"12345")
        assert test_bed.arrived(ends) == (1, 5)


@pytest.mark.parametrize("tls", [False, True])
def test_every_run_meets_an_empty_null_bucket(tls: bool) -> None:
    with run_null_bed([("a", 10)], tls=tls) as test_bed:
        with test_bed.fresh_ends() as first:
            put(first, "x", b"123")
            assert test_bed.arrived(first) == (1, 3)
        with test_bed.fresh_ends() as second:
            assert test_bed.arrived(second) == (0, 0)
