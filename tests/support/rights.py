"""The policies of RIGHTS.md, as they stand there, with the names of a test in them; and users."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import boto3

from noria.benchmarks.servers import REGION, ROOT, S3Server


def block_of(heading: str) -> str:
    """The first code block below this heading of RIGHTS.md."""
    text = (ROOT / "RIGHTS.md").read_text()
    _, found, below = text.partition(f"\n### {heading}\n")
    assert found, f"RIGHTS.md has no heading {heading!r}"
    block = re.search(
        r"^```\w+\n(.*?)^```$", below.partition("\n### ")[0], re.DOTALL | re.MULTILINE
    )
    assert block is not None, heading
    return block[1]


def s3_policy(heading: str, bucket: str, prefix: str) -> str:
    """A policy as AWS's IAM takes it. Those of Scaleway are written for a principal."""
    text = block_of(heading).replace("BUCKET", bucket).replace("PREFIX", prefix)
    policy: dict[str, Any] = json.loads(text)
    if policy["Version"] != "2012-10-17":
        policy = {"Version": "2012-10-17", "Statement": policy["Statement"]}
        for statement in policy["Statement"]:
            del statement["Principal"]
            statement["Resource"] = [f"arn:aws:s3:::{name}" for name in statement["Resource"]]
    return json.dumps(policy)


def sas_permissions(heading: str) -> str:
    """The letters of the SAS that the command below this heading makes."""
    found = re.search(r"--permissions (\w+)", block_of(heading))
    assert found is not None, heading
    return found[1]


def make_user(server: S3Server, policy: str) -> tuple[str, str]:
    """Key and secret of a new user with this policy."""
    iam: Any = boto3.client(
        "iam",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    name = f"user-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    # SeaweedFS takes every action in a managed policy, and a few less in one of the user's own.
    managed = iam.create_policy(PolicyName=name, PolicyDocument=policy)["Policy"]["Arn"]
    iam.attach_user_policy(UserName=name, PolicyArn=managed)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    iam.close()
    return key["AccessKeyId"], key["SecretAccessKey"]
