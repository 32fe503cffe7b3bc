"""Each server answers its own ecosystem's client, keeps data over a stop, and never outlives us."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from azure.storage.blob import BlobServiceClient

from noria.benchmarks import servers
from noria.benchmarks.servers import (
    ROOT,
    Azurite,
    Prometheus,
    S3Server,
    ServerFailed,
    ServerProcess,
)

WAIT_SECONDS = 15.0

OWNER = """
import signal
from noria.benchmarks import servers
with servers.{run}() as server:
    print(server.pid, flush=True)
    signal.pause()
"""


def test_azurite_keeps_a_blob_with_metadata_and_tags(
    azurite: Azurite, azure_container: str
) -> None:
    with azurite.client() as client:
        blob = client.get_blob_client(azure_container, "deep/name with spaces.txt")
        blob.upload_blob(b"water", metadata={"project": "p1"}, tags={"class": "open"})
        assert blob.download_blob().readall() == b"water"
        assert blob.get_blob_properties().metadata == {"project": "p1"}
        assert blob.get_blob_tags() == {"class": "open"}


def test_azurite_env_is_all_that_the_sdk_needs(azurite: Azurite, azure_container: str) -> None:
    connection_string = azurite.env()["AZURE_STORAGE_CONNECTION_STRING"]
    with BlobServiceClient.from_connection_string(connection_string) as client:
        assert azure_container in {container.name for container in client.list_containers()}


def test_azurite_in_memory_with_an_account_of_ours() -> None:
    with servers.run_azurite(account="another", key="a2V5", in_memory=True) as azurite:
        assert azurite.endpoint.endswith("/another")
        with azurite.client() as client:
            client.create_container("reads").upload_blob("empty", b"")


def test_azurite_finds_its_data_after_a_stop() -> None:
    with servers.run_azurite() as azurite, azurite.client() as client:
        blob = client.create_container("reads").upload_blob("a", b"water")
        azurite.process.stop()
        azurite.process.start()
        assert blob.download_blob().readall() == b"water"


def test_seaweedfs_keeps_an_object(seaweedfs: S3Server, s3_bucket: str) -> None:
    put_and_get(seaweedfs, s3_bucket)


def test_rclone_keeps_an_object(rclone_s3: S3Server, rclone_bucket: str) -> None:
    put_and_get(rclone_s3, rclone_bucket)


def put_and_get(server: S3Server, bucket: str) -> None:
    client = server.client()
    key = "deep/name with spaces.txt"
    client.put_object(Bucket=bucket, Key=key, Body=b"water", Metadata={"project": "p1"})
    got = client.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == b"water"
    assert {name.lower(): value for name, value in got["Metadata"].items()} == {"project": "p1"}
    client.close()


@pytest.mark.parametrize("name", ["seaweedfs", "rclone_s3"])
def test_s3_refuses_a_wrong_secret(name: str, request: pytest.FixtureRequest) -> None:
    server: S3Server = request.getfixturevalue(name)
    stranger = S3Server(process=server.process, access_key=server.access_key, secret_key="wrong")
    client = stranger.client()
    with pytest.raises(client.exceptions.ClientError) as refusal:
        client.list_buckets()
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    client.close()


def test_a_second_seaweedfs_has_its_own_data_and_finds_it_after_a_stop(
    seaweedfs: S3Server,
) -> None:
    with servers.run_seaweedfs(access_key="other", secret_key="other-secret") as other:
        assert other.endpoint != seaweedfs.endpoint
        client = other.client()
        assert client.list_buckets()["Buckets"] == []
        client.create_bucket(Bucket="reads")
        client.put_object(Bucket="reads", Key="a", Body=b"water")
        other.process.stop()
        other.process.start()
        assert client.get_object(Bucket="reads", Key="a")["Body"].read() == b"water"
        client.close()


def test_prometheus_evaluates_rules_and_scrapes(
    prometheus_factory: Callable[..., Prometheus], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text("groups: [{name: g, rules: [{record: one, expr: vector(1)}]}]")
    prometheus = prometheus_factory(rule_files=[rules])
    watcher = prometheus_factory(targets=[prometheus.endpoint.removeprefix("http://")])
    wait_until(lambda: [sample["value"][1] for sample in prometheus.query("one")] == ["1"])
    wait_until(lambda: [sample["value"][1] for sample in watcher.query("up")] == ["1"])
    [group] = prometheus.rule_groups()
    assert [rule["health"] for rule in group["rules"]] == ["ok"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not so after {WAIT_SECONDS:.0f} s"
        time.sleep(0.05)


def test_a_failed_start_shows_the_log_and_leaves_no_process(tmp_path: Path) -> None:
    process = ServerProcess(
        [sys.executable, "-c", "raise SystemExit('no room for the data')"],
        folder=tmp_path,
        endpoint="http://127.0.0.1:1",
    )
    with pytest.raises(ServerFailed, match="no room for the data"):
        process.start()
    with pytest.raises(ServerFailed, match="not running"):
        _ = process.pid


def test_a_port_is_given_to_one_process_alone() -> None:
    [port, _] = servers.free_ports(2)
    other = "import sys; from noria.benchmarks.servers import process\n"
    other += f"process.PORTS = [{port}, {port} + 1, {port} + 2]; print(process.free_ports(1)[0])"
    ended = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True)
    assert ended.stdout.strip() in {str(port + 1), str(port + 2)}, ended.stderr


def test_a_missing_tool_names_the_command_that_brings_it() -> None:
    with pytest.raises(servers.ToolMissing, match="make setup"):
        servers.find_tool("no-such-tool")


@pytest.mark.parametrize("run", ["run_azurite", "run_seaweedfs", "run_rclone_s3", "run_prometheus"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_dies_with_its_parent(run: str, number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(run=run)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        server = os.pidfd_open(int(owner.stdout.readline()))
        try:
            owner.send_signal(number)
            ended, _, _ = select.select([server], [], [], WAIT_SECONDS)
            assert ended == [server]
        finally:
            os.close(server)
    if number is signal.SIGINT:
        assert list(tmp_path.iterdir()) == []
