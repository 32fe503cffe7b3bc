"""Make DOCTOR.md: what `noria doctor` says of the servers that can be had here.

    make doctor-table

It starts each server, puts an object into a bucket of it, looks at that as source and as target of
a job, and writes down what was said. Nothing of it is written by hand but what stands here.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from azure.storage.blob import generate_container_sas

from noria.benchmarks.servers import (
    NODE,
    REGION,
    ROOT,
    S3Server,
    ServerProcess,
    free_ports,
    run_azurite,
    run_rclone_s3,
    run_seaweedfs,
)
from noria.benchmarks.servers.process import started, temporary_server_folder
from tests.support.moves import NORIA
from tests.support.rights import make_user, s3_policy, sas_permissions

TOOLS: Final = ROOT / "build/doctor"
SECONDS: Final = 60
HEAD: Final = """# What `noria doctor` says of the servers that the tests know

Made by `make doctor-table`: each server was started as the tests start it, and looked at as source
and as target of one job. Servers change; ask yours: `noria doctor s3://BUCKET/PREFIX --target`.

"""
REMARKS: Final = {
    "s3rver": "s3rver 3.7.1 ends itself at 256 bytes between two slashes, in a plan as well.\n\n"
}
"""What an answer alone would not explain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A server that is looked at: two locations, and the environment that leads to them."""

    name: str
    source: str
    target: str
    environment: Mapping[str, str]
    options: Sequence[str] = ()


@contextlib.contextmanager
def azurite() -> Iterator[Patient]:
    with run_azurite() as server, server.client() as client:
        environment = {}
        for role, name in (("source", "old"), ("target", "new")):
            client.create_container(name)
            sas = generate_container_sas(
                server.account,
                name,
                account_key=server.key,
                permission=sas_permissions(f"Azure SAS: {role}"),
                expiry=datetime.now(UTC) + timedelta(days=30),
            )
            environment[f"NORIA_{role.upper()}_AZURE_STORAGE_SAS_TOKEN"] = sas
        client.get_container_client("old").upload_blob("lake/a", b"x")
        yield Patient(
            name="Azurite, with the SAS of RIGHTS.md",
            source=f"az://{server.account}/old/lake/",
            target=f"az://{server.account}/new/lake/",
            environment=environment,
            options=("--endpoint", server.endpoint, "--target-endpoint", server.endpoint),
        )


def of_server(name: str, server: S3Server) -> Patient:
    """A server with keys that may do everything."""
    fill(server)
    return Patient(
        name=name,
        source="s3://old-lake/lake/",
        target="s3://new-lake/lake/",
        environment=server.env(),
    )


def fill(server: S3Server) -> None:
    client = server.client()
    for bucket in ("old-lake", "new-lake"):
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket="old-lake", Key="lake/a", Body=b"x")
    client.close()


@contextlib.contextmanager
def seaweedfs() -> Iterator[Patient]:
    with run_seaweedfs() as server:
        yield of_server("SeaweedFS, with keys that may do everything", server)


@contextlib.contextmanager
def seaweedfs_with_iam() -> Iterator[Patient]:
    with run_seaweedfs(makes_users=True) as server, tempfile.TemporaryDirectory() as folder:
        fill(server)
        lines = []
        for role, bucket in (("source", "old-lake"), ("target", "new-lake")):
            key, secret = make_user(server, s3_policy(f"AWS: {role}", bucket, "lake"))
            lines += [f"[{role}]", f"aws_access_key_id={key}", f"aws_secret_access_key={secret}"]
        credentials = Path(folder, "credentials")
        credentials.write_text("\n".join(lines) + "\n")
        job = Path(folder, "job.toml")
        job.write_text(
            '[source]\nurl = "s3://old-lake/lake/"\nprofile = "source"\n'
            '[target]\nurl = "s3://new-lake/lake/"\nprofile = "target"\n'
        )
        yield Patient(
            name="SeaweedFS with IAM, with the policies of RIGHTS.md",
            source=str(job),
            target="",
            environment={
                "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
                "AWS_ENDPOINT_URL_S3": server.endpoint,
                "AWS_REGION": REGION,
            },
        )


@contextlib.contextmanager
def rclone() -> Iterator[Patient]:
    with run_rclone_s3() as server:
        yield of_server("`rclone serve s3` over a local disk", server)


@contextlib.contextmanager
def run_other(name: str, command: Sequence[object], key: str) -> Iterator[S3Server]:
    """A server that is no more than a command; `{port}` and `{folder}` stand in it."""
    (port,) = free_ports(1)
    with temporary_server_folder(name) as folder:
        data = folder / "data"
        data.mkdir()
        words = [str(word).format(port=port, folder=data) for word in command]
        process = ServerProcess(words, folder=folder, endpoint=f"http://127.0.0.1:{port}")
        with started(process):
            yield S3Server(process=process, access_key=key, secret_key=key)


@contextlib.contextmanager
def moto() -> Iterator[Patient]:
    program = TOOLS / "venv/bin/moto_server"
    with run_other("moto", [program, "-H", "127.0.0.1", "-p", "{port}"], "moto") as server:
        yield of_server("moto", server)


@contextlib.contextmanager
def s3rver() -> Iterator[Patient]:
    program = TOOLS / "node_modules/s3rver/bin/s3rver.js"
    command = [NODE, program, "-d", "{folder}", "-a", "127.0.0.1", "-p", "{port}"]
    with run_other("s3rver", command, "S3RVER") as server:
        yield of_server("s3rver (npm)", server)


PATIENTS: Final = (azurite, seaweedfs, seaweedfs_with_iam, rclone, moto, s3rver)


def diagnosed(patient: Patient) -> dict[str, Any]:
    """The document of `noria doctor --json`."""
    named = [patient.source, patient.target] if patient.target else [patient.source]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "AZURE_", "NORIA_"))
    }
    with tempfile.TemporaryDirectory() as cache:
        ended = subprocess.run(
            [NORIA, "doctor", *named, *patient.options, "--json"],
            env={**environment, **patient.environment, "XDG_CACHE_HOME": cache},
            text=True,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    if ended.returncode not in (0, 2):
        raise RuntimeError(f"{patient.name}: {ended.stdout}{ended.stderr}")
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


# -- the document ----------------------------------------------------------------------------------


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a topic, one column a server: the marks of the target."""
    marks: dict[str, dict[str, str]] = {}
    for name, document in found.items():
        for end in document["ends"]:
            for finding in end["findings"]:
                row = marks.setdefault(f"{end['role']}: {finding['topic']}", {})
                row[name] = finding["mark"] if finding["mark"] == "ok" else f"**{finding['mark']}**"
    heads = [short(name) for name in found]
    lines = [f"| | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for topic in sorted(marks, key=lambda topic: topic.partition(":")[0]):
        cells = (marks[topic].get(name, "") for name in found)
        lines.append(f"| {topic} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def short(name: str) -> str:
    return name.partition(",")[0].partition(" over")[0].partition(" (")[0]


def told(document: Mapping[str, Any]) -> str:
    """What was said, a line a finding."""
    lines = []
    for end in document["ends"]:
        for finding in end["findings"]:
            advice = f" -> {finding['advice']}" if finding["advice"] else ""
            mark, topic = finding["mark"].ljust(5), finding["topic"].ljust(13)
            lines.append(f"    {mark}  {end['role']}  {topic}  {finding['says']}{advice}")
    return unvarying("\n".join(lines)) + "\n"


def unvarying(text: str) -> str:
    """The text without what differs each time: ports, tokens, request ids, dates."""
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", text)
    text = re.sub(r"noria-probe-[0-9a-f]{12}", "noria-probe-…", text)
    text = re.sub(r"\(request [^)]*\)", "(request …)", text)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "…", text)


def main() -> None:
    found = {}
    for start in PATIENTS:
        with start() as patient:
            found[patient.name] = diagnosed(patient)
            print(f"{patient.name}: {found[patient.name]['seconds']:.1f} s")
    parts = [HEAD, table(found)]
    for name, document in found.items():
        parts.append(f"\n## {name}\n\n{REMARKS.get(short(name), '')}{told(document)}")
    (ROOT / "DOCTOR.md").write_text("".join(parts))


if __name__ == "__main__":
    main()
