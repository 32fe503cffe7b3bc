"""A job asks for no right beyond what it does: below its prefix, or at its one object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from azure.storage.blob import generate_blob_sas

from noria.benchmarks.servers import REGION, S3Server, run_seaweedfs
from tests.support.moves import Move, plain


@pytest.fixture(scope="module")
def guarded() -> Iterator[S3Server]:
    """A SeaweedFS whose IAM has a user of this module."""
    with run_seaweedfs(makes_users=True) as server:
        yield server


def keys_below(server: S3Server, bucket: str, prefix: str) -> dict[str, str]:
    """The environment of a user who may list, read, write and delete below a prefix alone."""
    iam: Any = boto3.client(
        "iam",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    iam.create_user(UserName="prefix")
    statements = [
        {
            "Effect": "Allow",
            "Action": ["s3:List*"],
            "Resource": [f"arn:aws:s3:::{bucket}"],
            "Condition": {"StringLike": {"s3:prefix": [f"{prefix}*"]}},
        },
        {
            "Effect": "Allow",
            "Action": ["s3:Get*", "s3:Put*", "s3:DeleteObject"],
            "Resource": [f"arn:aws:s3:::{bucket}/{prefix}*"],
        },
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_user_policy(UserName="prefix", PolicyName="prefix", PolicyDocument=policy)
    key = iam.create_access_key(UserName="prefix")["AccessKey"]
    iam.close()
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_ENDPOINT_URL_S3": server.endpoint,
    }


def test_a_target_key_that_may_list_below_its_prefix_alone(
    make_move: Callable[..., Move], guarded: S3Server
) -> None:
    move = make_move([plain("a", 10), plain("b/c", 20)])
    owner = guarded.client()
    owner.create_bucket(Bucket="guarded")
    move.environment |= keys_below(guarded, "guarded", "mine/")
    user = boto3.client(
        "s3",
        endpoint_url=guarded.endpoint,
        region_name=REGION,
        aws_access_key_id=move.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=move.environment["AWS_SECRET_ACCESS_KEY"],
    )
    with pytest.raises(user.exceptions.ClientError, match="AccessDenied"):
        user.list_objects_v2(Bucket="guarded")
    user.close()
    done = move.noria("run", move.job_file(target={"url": "s3://guarded/mine/"}))
    assert (done["reconciled"], done["canaries_left"]) == (True, 0)
    listed = owner.list_objects_v2(Bucket="guarded").get("Contents", ())
    owner.close()
    assert {entry["Key"] for entry in listed} == {"mine/a", "mine/b/c"}


def test_a_sas_for_one_blob(make_move: Callable[..., Move]) -> None:
    move = make_move([plain("a", 10), plain("a/below", 20)])
    azurite = move.azurite
    sas = generate_blob_sas(
        azurite.account,
        move.container,
        "a",
        account_key=azurite.key,
        permission="r",
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    for name in azurite.env():
        del move.environment[name]
    move.environment["NORIA_SOURCE_AZURE_STORAGE_SAS_TOKEN"] = sas
    source = {"url": f"{move.source}/a", "endpoint": azurite.endpoint}
    done = move.noria("run", move.job_file(source=source))
    assert (done["outcomes"], done["reconciled"]) == ({"TRANSFERRED": 1}, True)
    source["url"] = f"{move.source}/b"
    move.job = move.job.with_name("other")
    process = move.start("run", move.job_file(source=source))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
