"""`noria bench`: what it measures, what it chooses, and that it touches nothing but its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from noria.benchmarks.servers import Azurite, S3Server
from noria.benchmarks.servers.dataset import upload_azure
from noria.benchmarks.sweep.ends import TargetSandbox
from noria.benchmarks.sweep.settings import read_settings
from noria.engine import job
from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.config.reading import job_config
from noria.engine.config.stores import open_end
from noria.engine.planning import open_prepared
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import Attributes
from noria.workers.digest import crc64nvme
from tests.support.moves import NORIA, RUN_SECONDS, SEED, plain
from tests.support.processes import wait_until

MIB = 1024 * 1024
PNG = b"\x89PNG\r\n"
GB = 10**9


# -- the settings ----------------------------------------------------------------------------------


def base_config(**sections: dict[str, Any]) -> JobConfig:
    ends = {"source": {"url": "az://account/c"}, "target": {"url": "s3://bucket/in"}}
    return job_config({**ends, **sections}, "a test")


def test_every_combination_is_a_setting_and_the_job_file_is_the_rest() -> None:
    config = base_config(run={"leases": 3, "streams": 5})
    settings = read_settings(config, ["part_bytes=8MiB,16777216", "streams=2,4"])
    tried = [(one.config.plan.part_bytes, one.config.run.streams) for one in settings]
    assert tried == [(8 * MIB, 2), (8 * MIB, 4), (16 * MIB, 2), (16 * MIB, 4)]
    assert settings[0].labels == {"part_bytes": "8MiB", "streams": "2"}
    assert {one.config.run.leases for one in settings} == {3}


@pytest.mark.parametrize(
    ("sweeps", "word"),
    [
        (["stream=2,4"], "no such setting"),
        (["metrics_address=a:1"], "no such setting"),
        (["streams"], "streams=VALUE"),
        (["streams="], "streams=VALUE"),
        (["streams=2,,4"], "streams=VALUE"),
        (["streams=two"], "run.streams"),
        (["streams=0"], "run.streams"),
        (["part_bytes=many"], "size"),
        (["streams=2", "streams=4"], "twice"),
        (["part_bytes=8MiB,8388608"], "same setting"),
        (["part_bytes=12MiB"], "multiple of chunk_bytes"),
        (["part_bytes=8MiB,1GiB"], "bytes_in_flight"),
        (["part_bytes=8MiB,64MiB", "bytes_in_flight=32MiB,1GiB"], "bytes_in_flight=32MiB"),
        (
            ["streams=" + ",".join(map(str, range(1, 101))), "leases=1,2,3,4,5,6,7,8,9,10,11"],
            "1000",
        ),
    ],
)
def test_settings_that_no_job_can_have_are_refused(sweeps: list[str], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as refused:
        read_settings(base_config(), sweeps)
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--sweep", "streams=0"], "run.streams"),
        (["--sweep", "part_bytes=8MiB,1GiB"], "bytes_in_flight"),
        (["--sweep", "streams=2", "--limit", "much"], "--limit"),
        (["--sweep", "streams=2", "--limit", "0"], "--limit"),
        (["--sweep", "streams=2", "--output", "{folder}"], "not empty"),
    ],
)
def test_a_bench_that_cannot_work_says_so_in_one_line_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], word: str
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_bytes(b"a")
    job_file = write_job_file(tmp_path, f"file://{tmp_path}/source", f"file://{tmp_path}/nowhere")
    before = sorted(tmp_path.rglob("*"))
    filled = [argument.format(folder=tmp_path) for argument in arguments]
    ended = run_bench(job_file, *filled, "--json")
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("noria: ")
    assert word in line
    assert json.loads(ended.stdout)["exit_code"] == 2
    assert sorted(tmp_path.rglob("*")) == before


def write_job_file(folder: Path, source: str, target: str, more: str = "") -> Path:
    path = folder / "genomes.toml"
    path.write_text(f'[source]\nurl = "{source}"\n[target]\nurl = "{target}"\n{more}')
    return path


def run_bench(
    job_file: Path, *arguments: str, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NORIA, "bench", job_file, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )


# -- real transfers --------------------------------------------------------------------------------


@pytest.fixture
def environment(azurite: Azurite, seaweedfs: S3Server) -> dict[str, str]:
    return {**os.environ, **azurite.env(), **seaweedfs.env()}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_matrix_is_run_reported_and_cleaned_up(
    azurite: Azurite,
    seaweedfs: S3Server,
    azure_container: str,
    s3_bucket: str,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    sizes = [2 * MIB] * 4 + [60_000] * 30 + [5000] * 100
    specs = [plain(f"cohort-{n % 7}/été {n:03}", size) for n, size in enumerate(sizes)]
    upload_azure(specs, azurite.connection_string, azure_container, SEED)
    client = seaweedfs.client()
    foreign = {"in/foreign", "in/noria-bench/foreign", "other"}
    for key in foreign:
        client.put_object(Bucket=s3_bucket, Key=key, Body=b"x")
    job_file = write_job_file(
        tmp_path,
        f"az://{azurite.account}/{azure_container}",
        f"s3://{s3_bucket}/in",
        '[run]\nleases = 3\n[plan]\nchunk_bytes = "1MiB"\n',
    )
    sweeps = ["--sweep", "part_bytes=1MiB,4MiB", "--sweep", "streams=2,4"]
    options = ["--repeats", "1", "--no-warm-up", "--limit", "6MiB", "--json"]
    ended = run_bench(job_file, *sweeps, *options, environment=environment)
    assert ended.returncode == 0, (ended.stdout, ended.stderr)
    document = json.loads(ended.stdout)
    output = tmp_path / "genomes-bench"
    assert {path.name for path in output.iterdir()} == {
        "runs.parquet",
        "throughput.png",
        "cpu.png",
    }
    for name in ("throughput.png", "cpu.png"):
        assert (output / name).read_bytes().startswith(PNG)
    expect_rows(pq.read_table(output / "runs.parquet").to_pylist())
    assert document["choice"]["settings"].keys() == {"part_bytes", "streams"}
    assert document["choice"]["job_file"][0] == "[plan]"
    listed = client.list_objects_v2(Bucket=s3_bucket)["Contents"]
    assert {item["Key"] for item in listed} == foreign
    assert not client.list_multipart_uploads(Bucket=s3_bucket).get("Uploads")
    client.close()
    said = ended.stdout + ended.stderr + str(pq.read_table(output / "runs.parquet").to_pylist())
    for secret in (azurite.key, seaweedfs.secret_key, *(spec.key for spec in specs)):
        assert secret not in said


def expect_rows(rows: list[dict[str, Any]]) -> None:
    tried = [(row["part_bytes"] // MIB, row["streams"]) for row in rows]
    assert tried == [(1, 2), (1, 4), (4, 2), (4, 4)]
    assert {(row["leases"], row["chunk_bytes"], row["round"]) for row in rows} == {(3, MIB, 1)}
    (moved,) = {(row["objects"], row["bytes"]) for row in rows}
    assert moved == (91, 2 * 2 * MIB + 30 * 60_000 + 59 * 5000)
    for row in rows:
        assert (row["exit_code"], row["ended"], row["cpu_scope"]) == (0, "well", "all processes")
        assert row["wall_seconds"] > row["move_seconds"] > 0
        assert row["bytes_per_second"] == pytest.approx(row["bytes"] / row["move_seconds"])
        assert row["driver_cpu_seconds"] > 0.2
        assert row["workers_cpu_seconds"] > 0.1
        roles = [row[f"{role}_cpu_seconds"] for role in ("driver", "workers", "other")]
        assert sum(roles) == pytest.approx(row["cpu_seconds"], abs=0.1)
        assert row["peak_rss_bytes"] > row["peak_pss_bytes"] > 50 * MIB


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A source of three files, and a target with a foreign one."""
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "from" / name).write_bytes(name.encode() * 100_000)
    (tmp_path / "to/foreign").write_bytes(b"x")
    return write_job_file(tmp_path, f"file://{tmp_path}/from", f"file://{tmp_path}/to")


@pytest.mark.slow
def test_a_setting_that_fails_is_told_and_left_out(folders: Path) -> None:
    sweep = ["--sweep", "start_seconds=0.000001,120"]
    to = folders.with_name("found")
    ended = run_bench(folders, *sweep, "--repeats", "1", "--no-warm-up", "--output", str(to))
    assert ended.returncode == 1, (ended.stdout, ended.stderr)
    assert "FAILED: start_seconds=0.000001, round 1: exit 3, no worker came up" in ended.stdout
    assert "chosen: start_seconds=120" in ended.stdout
    assert "    start_seconds = 120\n" in ended.stdout
    rows = pq.read_table(to / "runs.parquet").to_pylist()
    assert [(row["ended"], row["bytes_per_second"] is None) for row in rows] == [
        ("failed", True),
        ("well", False),
    ]
    assert [path.name for path in folders.with_name("to").iterdir()] == ["foreign"]


@pytest.mark.slow
def test_ctrl_c_ends_the_run_cleans_up_and_reports_what_there_is(folders: Path) -> None:
    output = folders.with_name("results")
    sweep = ["--sweep", "streams=2,4", "--output", str(output), "--json"]
    process = subprocess.Popen(
        [NORIA, "bench", folders, *sweep],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # The warm-up and one run have ended, and a third has begun.
    under_way = output / "work/run-0002/epochs/0000000002.json"
    wait_until(under_way.exists, "the third run")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode == 3, (out, err)
    document = json.loads(out)
    assert document["exit_code"] == 3
    rows = pq.read_table(output / "runs.parquet").to_pylist()
    ends = [(row["round"], row["ended"]) for row in rows]
    assert ends[:2] == [(0, "well"), (1, "well")]
    # The signal may find the third run at its very end.
    assert ends[2:] in ([(1, "stopped")], [(1, "well")])
    well = [row for row in rows if row["round"] and row["ended"] == "well"]
    note = f"stopped before the end, after {len(well)} of 6 runs"
    assert any(note in said for said in document["notes"])
    assert document["choice"]["settings"]["streams"] in {str(row["streams"]) for row in well}
    assert {path.name for path in output.iterdir()} == {
        "runs.parquet",
        "throughput.png",
        "cpu.png",
    }
    assert [path.name for path in folders.with_name("to").iterdir()] == ["foreign"]


def test_only_what_the_run_itself_wrote_is_deleted(
    azurite: Azurite,
    seaweedfs: S3Server,
    azure_container: str,
    s3_bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a receipt, as after a crash, the mark on the object decides."""
    for name, value in {**azurite.env(), **seaweedfs.env()}.items():
        monkeypatch.setenv(name, value)
    with azurite.client() as service:
        container = service.get_container_client(azure_container)
        for key in ("by-us", "by-another", "not-there", "deep/by-us"):
            container.upload_blob(key, b"a source")
    sandbox = TargetSandbox(EndConfig(url=f"s3://{s3_bucket}/in"))
    job_file = write_job_file(
        tmp_path, f"az://{azurite.account}/{azure_container}", sandbox.folder("run").url
    )
    subprocess.run([NORIA, "plan", job_file], capture_output=True, check=True)
    prepared = open_prepared(job_file.with_suffix(""))
    prefix, mark = prepared.facts.target_prefix, prepared.facts.job_id
    assert prefix == f"in/{sandbox.name}/run/"
    target = open_end(prepared.config.target)
    body = memoryview(b"landed")
    for key, txid in {
        f"{prefix}by-us": f"{mark}.0-0.1",
        f"{prefix}deep/by-us": f"{mark}.0-1.1",
        f"{prefix}by-another": "0123456789ab.0-0.1",
        f"{prefix}not-of-the-manifest": f"{mark}.0-0.1",
        "in/by-us": f"{mark}.0-0.1",
    }.items():
        target.put_object(key, body, attributes=Attributes(), txid=txid, crc64nvme=crc64nvme(body))
    target.create_upload(f"{prefix}by-us", attributes=Attributes(), txid=f"{mark}.0-0.2", size=6)
    target.create_upload("in/by-us", attributes=Attributes(), txid="another", size=6)
    for _ in range(2):
        sandbox.clear(prepared, ended_well=False)
        client = seaweedfs.client()
        listed = client.list_objects_v2(Bucket=s3_bucket)["Contents"]
        uploads = client.list_multipart_uploads(Bucket=s3_bucket)["Uploads"]
        client.close()
        assert {item["Key"] for item in listed} == {
            f"{prefix}by-another",
            f"{prefix}not-of-the-manifest",
            "in/by-us",
        }
        assert [upload["Key"] for upload in uploads] == ["in/by-us"]
    assert sandbox.count_left() == 2
    target.close()


def test_a_job_elsewhere_is_never_cleared(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/a").write_bytes(b"a")
    (tmp_path / "to").mkdir()
    ends = {
        "source": {"url": f"file://{tmp_path}/from"},
        "target": {"url": f"file://{tmp_path}/to"},
    }
    config = job_config(ends, "a test")
    prepared = job.plan(config, tmp_path / "job")
    (tmp_path / "to/a").write_bytes(b"a")
    with pytest.raises(ValueError, match="does not belong to this bench"):
        TargetSandbox(config.target).clear(prepared, ended_well=True)
    assert (tmp_path / "to/a").exists()
