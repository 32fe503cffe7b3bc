"""What AWS's and Azure's users have set works, on real servers, or is refused by name."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noria.benchmarks.null.certificates import make_certificate
from noria.workers.stores.azure.sas import container_sas
from noria.workers.stores.azure.settings import API_VERSION
from tests.support.connect_proxy import connect_proxy
from tests.support.far_store import far_store
from tests.support.moves import NORIA, Move, plain
from tests.support.scripted import Caller, scripted

AZURE = ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY")


@pytest.fixture
def move(make_move: Callable[..., Move]) -> Move:
    return make_move([plain("a", 10), plain("b/c", 3 << 20)])


def refused(move: Move, *arguments: str | Path) -> str:
    """One line that names the next step, and exit code 2."""
    process = move.start(*arguments, "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2, (out, err)
    (line,) = err.strip().splitlines()
    assert json.loads(out)["exit_code"] == 2
    return line


def copy_line(move: Move, *arguments: str) -> str:
    return refused(move, "copy", move.source, move.target, "--job", move.job, *arguments)


def copies(move: Move, *arguments: str) -> None:
    assert move.copy(*arguments)["reconciled"] is True
    move.expect_all_arrived()


# -- credentials -----------------------------------------------------------------------------------


def test_secrets_that_end_in_a_line_break(move: Move) -> None:
    """As those do that are mounted as files."""
    for name in ("AZURE_STORAGE_CONNECTION_STRING", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        move.environment[name] += "\n"
    move.environment["AWS_ENDPOINT_URL_S3"] += "\n"
    move.environment["AWS_REGION"] = "us-east-1\n"
    copies(move)


def test_a_sas_that_ends_in_a_line_break(move: Move) -> None:
    azurite = move.azurite
    sas = container_sas(
        azurite.account,
        move.container,
        azurite.key,
        permissions="rl",
        expiry=datetime.now(UTC) + timedelta(hours=1),
        version=API_VERSION,
    )
    for name in AZURE:
        del move.environment[name]
    move.environment["AZURE_STORAGE_SAS_TOKEN"] = f"?{sas}\r\n"
    move.environment["AZURE_STORAGE_SERVICE_ENDPOINT"] = azurite.endpoint
    copies(move)


def test_account_and_key_as_the_az_cli_reads_them(move: Move) -> None:
    del move.environment["AZURE_STORAGE_CONNECTION_STRING"]
    move.environment["AZURE_STORAGE_SERVICE_ENDPOINT"] = move.azurite.endpoint
    copies(move)


def test_a_profile_with_its_endpoint_and_region(move: Move, tmp_path: Path) -> None:
    server = move.seaweedfs
    for name in [name for name in move.environment if name.startswith("AWS_")]:
        del move.environment[name]
    (tmp_path / "config").write_text(
        "[profile theirs]\nregion = us-east-1\nservices = theirs\n"
        f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
        f"[services theirs]\ns3 =\n  endpoint_url = {server.endpoint}\n"
    )
    move.environment["AWS_CONFIG_FILE"] = str(tmp_path / "config")
    job_file = move.job_file(target={"profile": "theirs"})
    assert move.noria("run", job_file)["reconciled"] is True
    move.expect_all_arrived()


def test_a_container_that_anybody_may_read(move: Move) -> None:
    with move.azurite.client() as client:
        client.get_container_client(move.container).set_container_access_policy(
            {}, public_access="container"
        )
    for name in AZURE:
        del move.environment[name]
    move.environment["AZURE_STORAGE_SERVICE_ENDPOINT"] = move.azurite.endpoint
    copies(move, "--anonymous")


def test_without_credentials_there_is_one_line(move: Move) -> None:
    for name in AZURE:
        del move.environment[name]
    move.environment |= {
        "AZURE_STORAGE_SERVICE_ENDPOINT": move.azurite.endpoint,
        # None that would look for a machine's role.
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    line = copy_line(move)
    assert "AZURE_STORAGE_CONNECTION_STRING" in line
    assert "anonymous" in line


def test_a_connection_string_of_another_account(move: Move) -> None:
    line = refused(move, "copy", "az://another/box", move.target, "--job", move.job)
    assert "AZURE_STORAGE_CONNECTION_STRING is of the account" in line
    assert move.azurite.key not in line


# -- proxies and certificates ----------------------------------------------------------------------


def test_both_ends_through_a_proxy(move: Move) -> None:
    with connect_proxy(password="user:p@ss") as proxy:
        move.environment["HTTP_PROXY"] = proxy.url
        copies(move)
    places = {line.split("/")[2] for line in proxy.seen}
    assert places == {
        server.process.endpoint.removeprefix("http://") for server in (move.azurite, move.seaweedfs)
    }


def test_one_end_through_a_tunnel_with_roots_of_the_environment(move: Move, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    azurite = move.azurite
    with (
        connect_proxy() as proxy,
        far_store(azurite.process.endpoint, certificate, one_way_seconds=0.0) as source,
    ):
        move.environment["AZURE_STORAGE_CONNECTION_STRING"] = azurite.connection_string.replace(
            azurite.process.endpoint, source.endpoint
        )
        move.environment |= {
            "HTTPS_PROXY": proxy.url,
            "REQUESTS_CA_BUNDLE": str(certificate.ca_bundle),
        }
        copies(move)
        place = source.endpoint.removeprefix("https://")
    assert set(proxy.seen) == {f"CONNECT {place} HTTP/1.1"}


def test_what_needs_no_proxy_takes_none(move: Move) -> None:
    move.environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost,127.0.0.1"}
    copies(move)


def test_a_proxy_that_is_not_usable_is_named(move: Move) -> None:
    move.environment["HTTP_PROXY"] = "socks5://user:hunter2@127.0.0.1:9"
    line = copy_line(move)
    assert "HTTP_PROXY" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_roots_that_are_not_there_are_named(move: Move, name: str) -> None:
    for other in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        move.environment.pop(other, None)
    move.environment[name] = "/nonexistent/roots.pem"
    assert name in copy_line(move)


# -- endpoints -------------------------------------------------------------------------------------


@contextlib.contextmanager
def curious_host() -> Iterator[tuple[str, list[bytes]]]:
    """A host that writes down what it is sent."""
    heard: list[bytes] = []

    def play(caller: Caller) -> None:
        while head := caller.request():
            heard.append(head)
            caller.say("HTTP/1.1 403 Forbidden", "content-length: 0")

    with scripted(play) as host:
        yield host.url, heard


@pytest.mark.parametrize("role", ["source", "target"])
@pytest.mark.parametrize("command", ["run", "verify", "reconcile", "clean"])
def test_nothing_goes_to_an_endpoint_that_a_job_directory_alone_names(
    move: Move, role: str, command: str
) -> None:
    move.noria("plan", move.job_file())
    path = move.job / "job.json"
    with curious_host() as (url, heard):
        job = json.loads(path.read_text())
        job["config"][role]["endpoint"] = (
            f"{url}/{move.azurite.account}" if role == "source" else url
        )
        path.write_text(json.dumps(job))
        line = refused(move, command, move.job)
    assert url in line
    assert role in line
    assert heard == []


def test_an_endpoint_of_a_job_file_is_asked_for_by_who_has_not_named_it(
    move: Move, tmp_path: Path
) -> None:
    del move.environment["AWS_ENDPOINT_URL_S3"]
    job_file = move.job_file(target={"endpoint": move.seaweedfs.endpoint})
    move.noria("plan", job_file)
    mine = move.environment["XDG_CACHE_HOME"]
    move.environment["XDG_CACHE_HOME"] = str(tmp_path / "of another user")
    line = refused(move, "run", move.job)
    assert move.seaweedfs.endpoint in line
    assert "AWS_ENDPOINT_URL_S3" in line
    assert move.noria("run", job_file)["reconciled"] is True
    move.environment["XDG_CACHE_HOME"] = mine
    assert move.noria("run", move.job)["reconciled"] is True


def test_an_environment_that_leads_elsewhere_than_at_planning(move: Move) -> None:
    move.noria("plan", move.job_file())
    with curious_host() as (url, heard):
        move.environment["AZURE_STORAGE_CONNECTION_STRING"] = (
            move.azurite.connection_string.replace(move.azurite.process.endpoint, url)
        )
        line = refused(move, "run", move.job)
    assert move.azurite.endpoint in line
    assert url in line
    assert heard == []


def test_another_endpoint_than_at_planning_is_named(move: Move) -> None:
    copies(move)
    planned = move.environment["AWS_ENDPOINT_URL_S3"]
    move.environment["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:9"
    line = copy_line(move)
    assert planned in line
    assert "http://127.0.0.1:9" in line


# -- hardened containers ---------------------------------------------------------------------------


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder that another user can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="noria-test-") as folder:
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without a name")
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
        {"HOME": "/proc", "TMPDIR": "/proc", "XDG_CACHE_HOME": "/proc/noria"},
    ],
    ids=["no HOME", "HOME and TMPDIR that are not there", "HOME and TMPDIR that are read-only"],
)
def test_a_user_without_name_home_or_room(
    move: Move, environment: dict[str, str], room: Path
) -> None:
    os.chown(room, 65534, 65534)
    clean = {
        name: value
        for name, value in move.environment.items()
        if name not in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "LOGNAME", "USER")
    }
    ended = subprocess.run(
        [
            NORIA,
            *("copy", move.source, move.target, "--job", room / "job"),
            *("--metrics-address", "off", "--json"),
        ],
        env={**clean, **environment},
        cwd="/",
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert json.loads(ended.stdout)["reconciled"] is True


@pytest.mark.skipif(os.geteuid() != 0, reason="root can lock out another user")
def test_a_job_file_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o700)
    ended = subprocess.run(
        [NORIA, "run", folder / "job.toml", "--json"],
        cwd="/",
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.strip().splitlines()
    assert "Permission denied" in line
