"""Commands say nothing that the developer's own environment could change."""

from __future__ import annotations

import json
import ssl
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from noria.benchmarks.servers import find_tool
from noria.benchmarks.suite import openssl, peers, tools
from noria.benchmarks.suite.tools import Ends, Tool, juicefs, msc, noria, noria_role, rclone
from noria.benchmarks.suite.tuning import TRIALS, tool_of
from noria.benchmarks.suite.workloads import (
    MIXED_LARGEST_BYTES,
    bulk,
    bulk_https,
    mixed,
    null_bulk,
    small,
)
from noria.engine.config.reading import read_job_file


def ends(ca_bundle: Path | None = None) -> Ends:
    return Ends(
        connection_string="BlobEndpoint=http://127.0.0.1:1/a;",
        account="a",
        container="source",
        endpoint="http://127.0.0.1:2",
        access_key="key",
        secret_key="secret",
        bucket="bucket",
        ca_bundle=ca_bundle,
    )


@pytest.fixture(autouse=True)
def installed_msc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `make bench-tools` had run: nothing here runs it."""
    monkeypatch.setattr(
        tools, "find_tool", lambda name: Path("/msc") if name == "msc" else find_tool(name)
    )


@pytest.mark.parametrize(
    "tool", [noria(), rclone(["--flag"]), juicefs(["--flag"]), msc(["NAME=value"])]
)
def test_the_developers_environment_stays_out(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("RCLONE_TRANSFERS", "1")
    environment = tool.invoke(ends(), tmp_path).environment
    assert environment["HOME"] == str(tmp_path)
    assert not {"AWS_PROFILE", "RCLONE_TRANSFERS"} & environment.keys()


def test_over_https_noria_trusts_the_ca_at_both_ends(tmp_path: Path) -> None:
    invocation = noria().invoke(ends(tmp_path / "ca.pem"), tmp_path)
    job_file = Path(invocation.command[2])
    assert list(invocation.command[1:3]) == ["run", str(job_file)]
    config = read_job_file(job_file)
    assert (config.source.ca_bundle, config.target.ca_bundle) == (str(tmp_path / "ca.pem"),) * 2
    assert set(tomllib.loads(job_file.read_text())) == {"source", "target"}


def test_another_revision_runs_by_its_own_command(tmp_path: Path) -> None:
    program = tmp_path / "environment" / "bin" / "noria"
    invocation = noria(program=program).invoke(ends(), tmp_path)
    assert invocation.command[0] == str(program)
    assert "PYTHONPATH" not in invocation.environment


@pytest.mark.parametrize(
    ("command", "role"),
    [
        ("/a/noria/python /a/noria/bin/noria copy az://x s3://y", "Noria: driver"),
        (
            "python -P /a/bootstrap.py /a/noria noria.engine.cluster.worker_process",
            "Noria: workers",
        ),
        ("ray::WorkerActor.exchange", "Noria: workers"),
        ("ray::IDLE", "Ray: idle workers"),
        ("/r/raylet --worker=/noria/default_worker.py monitor.py", "Ray: raylet"),
        ("/noria/r/gcs_server --log=agent.py", "Ray: control store"),
        ("/noria/bin/python -u /r/ray/dashboard/agent.py --x", "Ray: agents"),
        ("/noria/bin/python -u /r/ray/autoscaler/_private/monitor.py", "Ray: monitors"),
        ("sleep 1", "other"),
    ],
)
def test_roles(command: str, role: str) -> None:
    assert noria_role(command) == role


def test_workloads_are_as_the_goals_name_them() -> None:
    assert sorted(size for _, size in bulk().objects) == [256 << 20] * 8 + [4 << 30]
    assert {size for _, size in small().objects} == {4096}
    assert len(small().objects) == len({key for key, _ in small().objects}) == 20_000
    assert mixed().bytes == 5 << 30
    assert max(size for _, size in mixed().objects) <= MIXED_LARGEST_BYTES
    sizes = sorted(size for _, size in mixed().objects)
    assert 35_000 < sizes[len(sizes) // 2] < 45_000
    assert mixed() == mixed()
    assert bulk_https(0.5).tls
    assert null_bulk(16 * 10**9, tls=True).bytes == pytest.approx(16e9, rel=0.01)


def test_every_trial_of_flags_can_be_run(tmp_path: Path) -> None:
    for name, (_, sets) in TRIALS.items():
        for words in sets:
            invocation = tool_of(words).invoke(ends(), tmp_path)
            assert Path(invocation.command[0]).name == words.split()[0], name


def test_msc_is_told_of_both_stores_by_its_configuration(tmp_path: Path) -> None:
    settings = ["MSC_NUM_PROCESSES=1", 'target.rust_client={"allow_http":true}']
    invocation = msc(settings).invoke(ends(tmp_path / "ca.pem"), tmp_path)
    environment = invocation.environment
    assert environment["MSC_NUM_PROCESSES"] == "1"
    assert environment["REQUESTS_CA_BUNDLE"] == str(tmp_path / "ca.pem")
    profiles = json.loads(Path(environment["MSC_CONFIG"]).read_text())["profiles"]
    assert list(invocation.command[2:]) == ["msc://source/", "--target-url", "msc://target/"]
    assert profiles["source"]["storage_provider"]["options"]["base_path"] == "source"
    target = profiles["target"]["storage_provider"]["options"]
    assert target["rust_client"] == {"allow_http": True}
    assert (target["base_path"], target["verify"]) == ("bucket", str(tmp_path / "ca.pem"))
    assert "request_checksum_calculation" not in target


def test_msc_sends_the_null_sink_no_checksum_that_it_could_not_take(tmp_path: Path) -> None:
    without_trailers = replace(ends(tmp_path / "ca.pem"), takes_trailers=False)
    environment = msc([]).invoke(without_trailers, tmp_path).environment
    profiles = json.loads(Path(environment["MSC_CONFIG"]).read_text())["profiles"]
    target = profiles["target"]["storage_provider"]["options"]
    assert target["request_checksum_calculation"] == "when_required"


def test_a_newer_openssl_is_lent_to_pythons_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openssl, "LENT_FOLDER", tmp_path)
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (3, 0, 19, 0, 0))

    def lent(tool: Tool) -> str | None:
        return tool.invoke(ends(), tmp_path).environment.get("LD_LIBRARY_PATH")

    assert lent(noria()) is None, "nothing was fetched"
    (tmp_path / "libssl.so.3").touch()
    assert (lent(noria()), lent(msc([]))) == (str(tmp_path), str(tmp_path))
    assert (lent(rclone([])), lent(juicefs([])), lent(noria(own_library=True))) == (None,) * 3
    assert peers.OLD_LIBRARY_NORIA in [one.name for one in peers.with_old_library([])]
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_INFO", (3, 5, 0, 0, 0))
    assert lent(noria()) is None, "the interpreter's own will do"
    assert peers.with_old_library([]) == []


def test_each_contender_says_what_it_proves() -> None:
    everyone = [
        *peers.large_object_tools(),
        *peers.small_object_tools(),
        *peers.mixed_object_tools(),
        *peers.tools_as_they_come(),
    ]
    assert all(one.proves for one in everyone)
    checking = {one.name for one in everyone if one.checks_bytes}
    assert checking == {
        peers.NORIA,
        peers.RCLONE_PARTS,
        peers.RCLONE_AS_IT_COMES,
        peers.MSC_AS_IT_COMES,
    }
    assert {one.tool for one in everyone} == {"noria", *peers.PEERS}
