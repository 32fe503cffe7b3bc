"""Commands say nothing that the developer's own environment could change."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from noria.benchmarks.suite.tools import Ends, Tool, juicefs, noria, noria_role, rclone
from noria.benchmarks.suite.tuning import TRIALS, tool_of
from noria.benchmarks.suite.workloads import (
    MIXED_LARGEST_BYTES,
    bulk,
    bulk_https,
    mixed,
    null_bulk,
    small,
)
from noria.engine.config.jobfile import read_job_file


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


@pytest.mark.parametrize("tool", [noria(), rclone(["--flag"]), juicefs(["--flag"])])
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
