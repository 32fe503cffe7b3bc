"""Two machines under the units of deploy/machines: a job over both, the token, the firewall."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machine_pair import (
    HEAD_HOST,
    WORKER_HOST,
    MachinePair,
    join,
    machine_pair,
    why_not,
)
from tests.deploy.units import HEAD, JOB, MACHINES, WORKER, read_unit
from tests.support.commands import noria
from tests.support.processes import wait_until

FILES = 40
FILE_BYTES = 100_000
CLOSED = {44217}
"""The port of Ray's monitor, which serves figures of its own: no other machine needs it."""
EXPOSURE_MOST = 2.0
"""Of 10, by `systemd-analyze security`. Services with no hardening have 9.6."""

REASON = why_not()
two_machines = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachinePair]:
    with machine_pair(tmp_path_factory.mktemp("machines")) as made:
        yield made


def firewall_ports(source: str) -> set[int]:
    """Ports that firewall.nft opens to a set of addresses."""
    rules = re.findall(
        rf"ip saddr @{source} tcp dport (\{{[^}}]*\}}|\S+) accept",
        (MACHINES / "firewall.nft").read_text(),
    )
    ports: set[int] = set()
    for item in re.split(r"[\s,]+", " ".join(rule.strip("{} ") for rule in rules)):
        first, _, last = item.partition("-")
        ports.update(range(int(first), int(last or first) + 1))
    return ports


def write_job(pair: MachinePair, name: str, *, workers: int = 2) -> Path:
    """A job that moves files from one folder to another; returns its directory."""
    source = pair.jobs / f"{name}-source"
    source.mkdir()
    for number in range(FILES):
        (source / f"{number:03}").write_bytes(bytes([number]) * FILE_BYTES)
    (pair.jobs / f"{name}.toml").write_text(
        f'[source]\nurl = "{source}"\n[target]\nurl = "{pair.jobs / name}-target"\n'
        f'[plan]\nshard_objects = 4\n[run]\nworkers = {workers}\nmetrics_address = "off"\n'
    )
    return pair.jobs / name


def moved(pair: MachinePair, name: str) -> bool:
    return all(
        (pair.jobs / f"{name}-target" / f"{number:03}").read_bytes() == bytes([number]) * FILE_BYTES
        for number in range(FILES)
    )


def busy_hosts(pair: MachinePair, name: str) -> set[str]:
    """Names of the machines that bytes went through, as far as is known."""
    status = pair.jobs / name / "status.json"
    if not status.exists():
        return set()
    hosts = json.loads(status.read_text())["hosts"]
    return {host for host, figures in hosts.items() if figures["written_bytes"]}


# -- run -------------------------------------------------------------------------------------------


@two_machines
@pytest.mark.timeout(240)
def test_a_job_runs_over_both_and_uses_no_port_that_the_firewall_closes(
    pair: MachinePair,
) -> None:
    write_job(pair, "both")
    process = pair.job("both", "--bandwidth", "1MB/s", "--json")
    open_ports = firewall_ports("machines")
    seen: set[tuple[int, int]] = set()
    while process.poll() is None:
        seen |= pair.connections(WORKER_HOST)
    out, err = process.communicate()
    assert process.returncode == 0, (out, err)
    assert busy_hosts(pair, "both") == {HEAD_HOST, WORKER_HOST}
    assert moved(pair, "both")
    assert seen, "the machines speak to each other"
    for own, other in seen:
        assert {own, other} & open_ports, f"port {own} to port {other}"
    for host in (HEAD_HOST, WORKER_HOST):
        assert pair.listening(host) - CLOSED <= open_ports | firewall_ports("monitoring")


@two_machines
@pytest.mark.timeout(240)
def test_who_has_another_token_is_refused(pair: MachinePair, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text(secrets.token_hex(32))
    write_job(pair, "refused")
    process = pair.job("refused", token=wrong)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "it does not take this driver's token" in err
    assert not list((pair.jobs / "refused-target").glob("*"))
    pair.end(WORKER_HOST)
    try:
        node = pair.start(WORKER_HOST, token=wrong)
        assert node.wait(timeout=90) != 0
        wait_until(lambda: pair.cpus() == "0.0/1.0", "the head alone", seconds=60)
    finally:
        pair.end(WORKER_HOST)
        join(pair)


@two_machines
@pytest.mark.timeout(240)
def test_a_machine_that_is_stopped_hands_its_work_back(pair: MachinePair) -> None:
    write_job(pair, "stopped")
    process = pair.job("stopped", "--bandwidth", "70KB/s", "--json")
    try:
        wait_until(
            lambda: busy_hosts(pair, "stopped") == {HEAD_HOST, WORKER_HOST},
            "work on both",
            seconds=90,
        )
        said = pair.stop(WORKER_HOST)
        assert process.poll() is None, "the job goes on meanwhile"
        assert noria("set", pair.jobs / "stopped", "bandwidth=100MB/s")[0] == 0
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
        pair.end(WORKER_HOST)
        join(pair)
    assert process.returncode == 0, (out, err, said)
    log = (pair.jobs / "stopped" / "log" / "noria.log").read_text()
    assert not re.search(r"worker \d+ on \S+ is (lost|given up)", log), "it was told, and ended"
    assert moved(pair, "stopped")


@two_machines
@pytest.mark.timeout(240)
def test_workers_without_a_place_are_demand_that_an_autoscaler_sees(pair: MachinePair) -> None:
    """The overlays of deploy/kuberay stand on that."""
    write_job(pair, "asked", workers=3)
    process = pair.job("asked", "--bandwidth", "100KB/s")
    try:
        wait_until(
            lambda: "{'CPU': 1.0}: 1+ pending tasks/actors" in pair.status(),
            "a worker without a place",
            seconds=90,
        )
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err
    assert moved(pair, "asked"), "nobody waits for it"


# -- what the files say ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [HEAD, WORKER])
def test_every_port_is_fixed_and_in_the_firewall(name: str) -> None:
    words = read_unit(name).one("ExecStart").split()
    ports = dict(re.findall(r"--(\S*port)=(\d+)", " ".join(words)))
    fixed = {
        "node-manager-port",
        "object-manager-port",
        "runtime-env-agent-port",
        "dashboard-agent-grpc-port",
        "dashboard-agent-listen-port",
        "metrics-export-port",
        "min-worker-port",
        "max-worker-port",
    }
    assert ports.keys() == (fixed | {"port"} if name == HEAD else fixed)
    scraped = {ports.pop("metrics-export-port")}
    assert {int(port) for port in ports.values()} <= firewall_ports("machines")
    assert {int(port) for port in scraped} <= firewall_ports("monitoring")


def test_the_firewall_drops_the_rest_and_opens_no_port_of_ray_to_everybody() -> None:
    text = (MACHINES / "firewall.nft").read_text()
    assert "hook input priority filter; policy drop;" in text
    to_all = re.findall(r"^\s+(?:tcp|udp) dport (.+) accept$", text, flags=re.MULTILINE)
    assert to_all == ["22"]


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft")
@two_machines
def test_nft_takes_the_firewall() -> None:
    checked = subprocess.run(
        ["unshare", "--net", "nft", "--check", "--file", MACHINES / "firewall.nft"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_head_and_worker_have_the_same_ports() -> None:
    commands = [read_unit(name).one("ExecStart") for name in (HEAD, WORKER)]
    head, worker = (dict(re.findall(r"--(\S+-port)=(\d+)", command)) for command in commands)
    assert head == worker


def test_a_job_that_ended_with_findings_has_not_failed_and_is_not_run_again() -> None:
    unit = read_unit(JOB)
    assert unit.one("SuccessExitStatus") == "1"
    assert unit.one("Restart") == "on-failure", "3: what is left is moved by another run"
    assert unit.one("RestartPreventExitStatus").split() == ["1", "2"]


def test_a_stop_waits_for_the_drain() -> None:
    unit = read_unit(WORKER)
    *_, seconds = unit.one("ExecStop").split()
    assert int(seconds) < int(unit.one("TimeoutStopSec"))


@pytest.mark.parametrize("name", [HEAD, WORKER, JOB])
def test_whatever_a_unit_runs_can_read_the_token(name: str) -> None:
    """systemd 252, which Debian 12 has, shows a credential to no ExecStop: that needs a copy."""
    unit = read_unit(name)
    path = unit.environment()["RAY_AUTH_TOKEN_PATH"]
    if "ExecStop" in unit.settings:
        assert f"/usr/bin/install --mode=600 %d/ray-token {path}" in unit.settings["ExecStartPre"]
        assert path == f"%t/{unit.one('RuntimeDirectory')}/ray-token"
        assert unit.one("RuntimeDirectoryMode") == "0700"
    else:
        assert path == "%d/ray-token"


@pytest.mark.parametrize("name", [HEAD, WORKER, JOB])
def test_units_hold_no_secret_and_run_as_a_user_of_their_own(name: str) -> None:
    unit = read_unit(name)
    assert unit.one("User") == "noria"
    assert unit.one("LoadCredential") == "ray-token:/etc/noria/ray-token"
    assert unit.environment()["RAY_AUTH_MODE"] == "token"
    assert "RAY_AUTH_TOKEN" not in unit.environment()
    assert unit.one("NoNewPrivileges") == "true"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", [HEAD, WORKER, JOB])
def test_systemd_takes_the_units_and_finds_them_hardened(name: str, tmp_path: Path) -> None:
    text = (MACHINES / name).read_text()
    programs = set(re.findall(r"/opt/noria/bin/\S+", text))
    assert programs
    for program in programs:  # systemd looks whether they are there
        text = text.replace(program, "/bin/true")
    (tmp_path / name).write_text(text)
    verified = analyze("verify", tmp_path / name)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = analyze("security", "--offline=true", tmp_path / name)
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", rated.stdout)
    assert float(exposure) <= EXPOSURE_MOST


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_a_misspelt_setting_of_a_unit_is_found(tmp_path: Path) -> None:
    text = (MACHINES / HEAD).read_text().replace("ProtectHome=", "ProtectHomes=")
    (tmp_path / HEAD).write_text(text)
    assert "Unknown key 'ProtectHomes'" in analyze("verify", tmp_path / HEAD).stderr


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )
