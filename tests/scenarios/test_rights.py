"""A job runs with exactly the rights that RIGHTS.md names, and they allow nothing more."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient, generate_container_sas
from botocore.exceptions import ClientError

from noria.benchmarks.servers import REGION, S3Server, run_seaweedfs
from noria.benchmarks.servers.dataset import ObjectSpec, upload_s3
from tests.support.moves import NORIA, SEED, Move, plain
from tests.support.rights import block_of, make_user, s3_policy, sas_permissions

MIB = 1024 * 1024
SPECS = [
    plain("lake/a", 10),
    plain("lake/b/c", 20),
    plain("lake/large", 17 * MIB),
    ObjectSpec(
        key="lake/tagged",
        size=5,
        content_type="text/plain",
        metadata={"project": "x"},
        tags={"class": "open data"},
    ),
]


@pytest.fixture(scope="module")
def guarded() -> Iterator[S3Server]:
    """A SeaweedFS whose IAM has users of this module."""
    with run_seaweedfs(makes_users=True) as server:
        yield server


def client_of(server: S3Server, keys: tuple[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )


def diagnosed(move: Move, *arguments: Any) -> dict[str, dict[str, str]]:
    """The marks of all topics at both ends."""
    ended = subprocess.run(
        [NORIA, "doctor", *arguments, "--json"],
        env=move.environment,
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    found = json.loads(ended.stdout)
    lacking = [one for end in found["ends"] for one in end["findings"] if one["mark"] == "lacks"]
    assert (ended.returncode, lacking) == (0, []), lacking
    return {
        end["role"]: {finding["topic"]: finding["mark"] for finding in end["findings"]}
        for end in found["ends"]
    }


def refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except (ClientError, HttpResponseError) as error:
        return "AccessDenied" in str(error) or "Authorization" in str(error)
    return False


@pytest.mark.parametrize("cloud", ["AWS", "Scaleway"])
def test_a_job_between_buckets(
    make_move: Callable[..., Move], guarded: S3Server, tmp_path: Path, cloud: str
) -> None:
    move = make_move([])
    owner = guarded.client()
    source, target = f"{cloud.lower()}-source", f"{cloud.lower()}-target"
    for bucket in (source, target):
        owner.create_bucket(Bucket=bucket)
    upload_s3(SPECS, owner, source, SEED)
    owner.put_object(Bucket=source, Key="others", Body=b"x")
    reader = make_user(guarded, s3_policy(f"{cloud}: source", source, "lake"))
    writer = make_user(guarded, s3_policy(f"{cloud}: target", target, "new"))
    credentials = tmp_path / "credentials"
    credentials.write_text(
        "".join(
            f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
            for name, (key, secret) in (("reader", reader), ("writer", writer))
        )
    )
    for name in guarded.env():
        move.environment.pop(name, None)
    move.environment |= {
        "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
        "AWS_ENDPOINT_URL_S3": guarded.endpoint,
        "AWS_REGION": REGION,
    }
    job_file = move.job_file(
        source={"url": f"s3://{source}/lake", "profile": "reader"},
        target={"url": f"s3://{target}/new", "profile": "writer"},
    )
    found = diagnosed(move, job_file)
    assert found["source"]["may-write"] == "ok"
    assert found["source"]["list"] == found["source"]["read"] == found["source"]["tags"] == "ok"
    assert found["source"]["outside"] == ("ok" if cloud == "AWS" else "note")
    assert found["target"]["delete"] == found["target"]["uploads-abort"] == "ok"
    done = move.noria("run", job_file)
    assert (done["reconciled"], done["canaries_left"]) == (True, 0)
    assert done["outcomes"] == {"TRANSFERRED": len(SPECS)}
    move.noria("verify", move.job)
    listed = owner.list_objects_v2(Bucket=target)["Contents"]
    names = {spec.key.replace("lake/", "new/", 1) for spec in SPECS}
    assert {entry["Key"] for entry in listed} == names
    tags = owner.get_object_tagging(Bucket=target, Key="new/tagged")["TagSet"]
    assert tags == [{"Key": "class", "Value": "open data"}]
    owner.close()
    user = client_of(guarded, reader)
    assert refused(lambda: user.put_object(Bucket=source, Key="lake/a", Body=b"x"))
    assert refused(lambda: user.delete_object(Bucket=source, Key="lake/a"))
    assert refused(lambda: user.get_object(Bucket=source, Key="others"))
    user.close()
    user = client_of(guarded, writer)
    assert refused(lambda: user.delete_object(Bucket=target, Key="new/a"))
    assert refused(lambda: user.put_object(Bucket=target, Key="others", Body=b"x"))
    user.close()


def test_a_locked_bucket_that_may_not_be_asked_keeps_one_canary_at_most(
    make_move: Callable[..., Move], guarded: S3Server
) -> None:
    """Where the rights to see its locks are missing, one object tells, and it is named."""
    move = make_move([plain("a", 10)])
    owner = guarded.client()
    owner.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    days = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    owner.put_object_lock_configuration(
        Bucket="locked",
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": days},
    )
    policy = json.loads(s3_policy("AWS: target", "locked", "new"))
    statements = policy["Statement"]
    (sees,) = (one for one in statements if one["Sid"] == "SeeWhatTheBucketKeeps")
    statements.remove(sees)
    key, secret = make_user(guarded, json.dumps(policy))
    move.environment |= {
        **guarded.env(),
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
    }
    planned = move.noria("plan", move.job_file(target={"url": "s3://locked/new"}))
    listed = owner.list_object_versions(Bucket="locked")
    owner.close()
    assert planned["target"]["canaries_left"] == len(listed["Versions"]) == 1
    assert listed.get("DeleteMarkers", []) == []


def test_a_job_between_containers(make_move: Callable[..., Move]) -> None:
    move = make_move(SPECS)
    azurite, target = move.azurite, f"{move.container}-new"
    with azurite.client() as service:
        service.create_container(target)
    for name in azurite.env():
        del move.environment[name]
    for role, container in (("source", move.container), ("target", target)):
        sas = generate_container_sas(
            azurite.account,
            container,
            account_key=azurite.key,
            permission=sas_permissions(f"Azure SAS: {role}"),
            expiry=datetime.now(UTC) + timedelta(hours=30),
        )
        move.environment[f"NORIA_{role.upper()}_AZURE_STORAGE_SAS_TOKEN"] = sas
    job_file = move.job_file(
        source={"url": f"{move.source}/lake", "endpoint": azurite.endpoint},
        target={"url": f"az://{azurite.account}/{target}", "endpoint": azurite.endpoint},
    )
    found = diagnosed(move, job_file)
    assert found["source"]["may-write"] == found["source"]["may-delete"] == "ok"
    assert found["source"]["tags"] == found["source"]["credentials"] == "ok"
    assert found["target"]["delete"] == "ok"
    done = move.noria("run", job_file)
    assert (done["reconciled"], done["canaries_left"]) == (True, 0)
    move.noria("verify", move.job)
    sas = move.environment["NORIA_SOURCE_AZURE_STORAGE_SAS_TOKEN"]
    url = f"{azurite.endpoint}/{move.container}?{sas}"
    with ContainerClient.from_container_url(url) as client:
        assert refused(lambda: client.upload_blob("lake/a", b"x", overwrite=True))
        assert refused(lambda: client.delete_blob("lake/a"))
    with azurite.client() as service:
        found_tags = service.get_blob_client(target, "tagged").get_blob_tags()
        assert found_tags == {"class": "open data"}
        service.delete_container(target)


@pytest.mark.parametrize("role", ["source", "target"])
def test_roles_of_azure_are_what_azure_takes(role: str) -> None:
    """They cannot be tried here; so at least they are whole, and name no right by mistake."""
    definition = json.loads(block_of(f"Azure RBAC: {role}"))
    below = "Microsoft.Storage/storageAccounts/blobServices/containers/"
    named = [*definition["Actions"], *definition["DataActions"]]
    assert all(action.startswith(below) for action in named)
    writes = [action for action in named if "write" in action or "delete" in action]
    assert bool(writes) == (role == "target")


@dataclass(frozen=True, slots=True)
class LivingBuckets:
    """A migration from one bucket to another, each with the key of a user who may do little."""

    move: Move
    server: S3Server
    credentials: Path

    def act_as(self, *, reader: str, writer: str) -> None:
        """From here on a new user with this policy is the source's, and another the target's."""
        lines = []
        for name, policy in (("reader", reader), ("writer", writer)):
            key, secret = make_user(self.server, policy)
            lines += [
                f"[{name}]",
                f"aws_access_key_id = {key}",
                f"aws_secret_access_key = {secret}",
            ]
        self.credentials.write_text("\n".join(lines))

    def noria(self, *arguments: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [NORIA, *arguments, "--json"],
            env=self.move.environment,
            capture_output=True,
            timeout=100,
            check=False,
        )

    def code(self, command: str, *arguments: Any) -> int:
        return self.noria(command, self.move.job, *arguments).returncode


@pytest.fixture
def living(
    make_move: Callable[..., Move], guarded: S3Server, tmp_path: Path
) -> Iterator[LivingBuckets]:
    """One whose first pass has ended, with the policies of this page."""
    move = make_move([])
    owner = guarded.client()
    for bucket in ("living", "later"):
        owner.create_bucket(Bucket=bucket)
    upload_s3(SPECS, owner, "living", SEED)
    for name in guarded.env():
        move.environment.pop(name, None)
    found = LivingBuckets(move, guarded, tmp_path / "credentials")
    move.environment |= {
        "AWS_SHARED_CREDENTIALS_FILE": str(found.credentials),
        "AWS_ENDPOINT_URL_S3": guarded.endpoint,
        "AWS_REGION": REGION,
    }
    found.act_as(**policies())
    job_file = move.job_file(
        source={"url": "s3://living/lake", "profile": "reader"},
        target={"url": "s3://later/new", "profile": "writer"},
    )
    assert found.noria("run", job_file).returncode == 0
    yield found
    owner.close()


def policies() -> dict[str, str]:
    return {
        "reader": s3_policy("AWS: source", "living", "lake"),
        "writer": s3_policy("AWS: target", "later", "new"),
    }


def test_passes_need_no_more_than_a_copy_and_others_what_is_said(living: LivingBuckets) -> None:
    owner = living.server.client()

    def content(bucket: str, key: str) -> bytes:
        read: bytes = owner.get_object(Bucket=bucket, Key=key)["Body"].read()
        return read

    owner.put_object(Bucket="living", Key="lake/a", Body=b"changed")
    owner.delete_object(Bucket="living", Key="lake/b/c")
    assert living.code("sync") == 0
    assert content("later", "new/a") == b"changed"

    mirror = ("sync", "--deletions", "mirror", "--yes")
    assert living.code(*mirror) != 0
    assert content("later", "new/b/c")
    deleting = json.loads(policies()["writer"])
    deletes = {"Effect": "Allow", "Action": ["s3:DeleteObject"]}
    deleting["Statement"].append({**deletes, "Resource": ["arn:aws:s3:::later/new/*"]})
    living.act_as(**{**policies(), "writer": json.dumps(deleting)})
    assert living.code(*mirror) == 0
    names = {one["Key"] for one in owner.list_objects_v2(Bucket="later")["Contents"]}
    assert "new/b/c" not in names

    living.act_as(**policies())
    switch = ("cutover", "--quiet-for", "1s", "--approve-as", "Ann", "--switch-command", "true")
    assert living.code(*switch) == 0
    owner.put_object(Bucket="later", Key="new/a", Body=b"in use")
    assert living.code("rollback") != 0
    assert content("living", "lake/a") == b"changed"
    living.act_as(**{**policies(), "reader": s3_policy("AWS: target", "living", "lake")})
    assert living.code("rollback") == 0
    assert content("living", "lake/a") == b"in use"

    living.act_as(**policies())
    assert living.code(*switch) == 0
    retired = living.noria("retire", living.move.job, "--confirmed-by", "Ann")
    assert json.loads(retired.stdout)["source"]["versions"] is None
    owner.close()
