"""Keys and region of the environment, against what botocore's chain finds in the same one."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.session
import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from noria.manifests.errors import ConfigurationError, NoriaError
from noria.workers.stores.s3.credentials import (
    credentials_end,
    environment_keys,
    environment_region,
    find_keys,
    find_region,
)
from noria.workers.stores.s3.profiles import StoreProfile, read_profile
from tests.support.scripted import Caller, scripted

KEYS = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """One without any credentials: neither the developer's own, nor a machine's role."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return monkeypatch


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"AWS_SESSION_TOKEN": "session"},
        {"AWS_SECURITY_TOKEN": "security"},
        {"AWS_SESSION_TOKEN": "session", "AWS_SECURITY_TOKEN": "security"},
        {"AWS_SESSION_TOKEN": ""},
        {"AWS_DEFAULT_REGION": "eu-north-1"},
    ],
)
def test_botocore_finds_the_same(environment: pytest.MonkeyPatch, more: dict[str, str]) -> None:
    for name, value in {**KEYS, **more}.items():
        environment.setenv(name, value)
    session = botocore.session.Session()
    theirs = session.get_credentials().get_frozen_credentials()
    own = environment_keys(os.environ)
    assert own is not None
    assert (own.access_key, own.secret_key, own.token) == tuple(theirs)[:3]
    assert environment_region(os.environ) == session.get_config_variable("region")


def test_the_environment_comes_before_a_profile_of_the_environment(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(
        "[other]\naws_access_key_id = OTHER\naws_secret_access_key = other\n"
    )
    for name, value in {**KEYS, "AWS_PROFILE": "other"}.items():
        environment.setenv(name, value)
    theirs = botocore.session.Session().get_credentials().get_frozen_credentials()
    own = environment_keys(os.environ)
    assert own is not None
    assert own.access_key == theirs.access_key == KEYS["AWS_ACCESS_KEY_ID"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"AWS_ACCESS_KEY_ID": "AKIA"},
        {"AWS_SECRET_ACCESS_KEY": "secret"},
        {**KEYS, "AWS_SECRET_ACCESS_KEY": ""},
        {**KEYS, "AWS_CREDENTIAL_EXPIRATION": "2031-01-01T00:00:00Z"},
    ],
)
def test_what_is_not_whole_or_does_not_last_is_left_to_botocore(values: dict[str, str]) -> None:
    assert environment_keys(values) is None


def test_a_secret_is_not_shown() -> None:
    assert KEYS["AWS_SECRET_ACCESS_KEY"] not in repr(environment_keys(KEYS))


@pytest.mark.parametrize("mark", ["\n", "\r\n", " "])
def test_what_stands_round_a_key_is_not_part_of_it(
    environment: pytest.MonkeyPatch, tmp_path: Path, mark: str
) -> None:
    """Mounted secrets end in a line break; also where botocore is the one that reads them."""
    spoilt = {name: value + mark for name, value in {**KEYS, "AWS_SESSION_TOKEN": "t"}.items()}
    own = environment_keys(spoilt)
    assert own is not None
    wanted = (KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], "t")
    assert (own.access_key, own.secret_key, own.token) == wanted
    for name, value in spoilt.items():
        environment.setenv(name, value)
    environment.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    found = find_keys(None, None)()
    assert (found.access_key, found.secret_key, found.token) == wanted
    for name in spoilt:
        environment.delenv(name)
    (tmp_path / "AWS_SHARED_CREDENTIALS_FILE").write_text(
        "[other]\naws_access_key_id = OTHER\naws_secret_access_key = other\n"
    )
    environment.setenv("AWS_PROFILE", f"other{mark}")
    assert find_keys(None, None)().access_key == "OTHER"


CONFIG = """
[default]
region = eu-west-1
[profile scw]
region = fr-par
services = scw
ca_bundle = /roots.pem
[services scw]
s3 =
  endpoint_url = https://s3.fr-par.scw.cloud
[profile plain]
endpoint_url = http://127.0.0.1:1
"""


@pytest.mark.parametrize(
    ("profile", "more", "region"),
    [
        (None, {}, "eu-west-1"),
        (None, {"AWS_PROFILE": "scw"}, "fr-par"),
        (None, {"AWS_REGION": "a-1", "AWS_DEFAULT_REGION": "b-1", "AWS_PROFILE": "scw"}, "a-1"),
        (None, {"AWS_REGION": "a-1\n"}, "a-1"),
        (None, {"AWS_DEFAULT_REGION": "b-1"}, "b-1"),
        ("scw", {"AWS_REGION": "a-1"}, "fr-par"),
        ("plain", {"AWS_REGION": "a-1"}, "a-1"),
        ("plain", {}, "us-east-1"),
    ],
)
def test_where_the_region_is_from(
    tmp_path: Path, profile: str | None, more: dict[str, str], region: str
) -> None:
    (tmp_path / "config").write_text(CONFIG)
    environment = {"AWS_CONFIG_FILE": str(tmp_path / "config"), **more}
    assert find_region(profile, environment) == region


def test_a_web_identity_that_cannot_be_used_is_one_line(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a file that is not there nor a refusal of the role is an unexpected error."""

    def play(caller: Caller) -> None:
        caller.request()
        body = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        caller.say("HTTP/1.1 403 Forbidden", f"content-length: {len(body)}", body=body)

    token = tmp_path / "token"
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/mine")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    environment.setenv("AWS_REGION", "us-east-1")
    environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with scripted(play) as host:
        environment.setenv("AWS_ENDPOINT_URL_STS", host.url)
        for content in (None, "hunter2"):
            if content is not None:
                token.write_text(content)
            with pytest.raises(NoriaError, match="S3 credentials cannot be had") as caught:
                find_keys(None, None)()
            assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("region", ["eu-west-1@evil.example.org", "a/b", "a?b"])
def test_what_would_change_the_host_is_not_taken_for_a_region(region: str) -> None:
    with pytest.raises(ConfigurationError, match="AWS_REGION"):
        find_region(None, {"AWS_REGION": region})


def test_what_a_profile_says_of_its_store(tmp_path: Path) -> None:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text(CONFIG)
    (folder / "credentials").write_text("[mine]\nregion = eu-south-1\naws_access_key_id = A\n")
    home = {"HOME": str(tmp_path)}
    assert read_profile("scw", home) == StoreProfile(
        region="fr-par", endpoint="https://s3.fr-par.scw.cloud", ca_bundle="/roots.pem"
    )
    assert read_profile("plain", home).endpoint == "http://127.0.0.1:1"
    assert read_profile("mine", home).region == "eu-south-1"
    assert read_profile("none", home) == StoreProfile()
    assert read_profile(None, {}) == StoreProfile()
    (folder / "config").write_text("no section\n")
    with pytest.raises(ConfigurationError, match="config"):
        read_profile("scw", home)


def test_keys_that_are_renewed_say_so() -> None:
    """As those of a role: a diagnosis need not warn that they end."""
    later = datetime.now(UTC) + timedelta(hours=1)
    metadata = {
        "access_key": "a",
        "secret_key": "s",
        "token": "t",
        "expiry_time": later.isoformat(),
    }
    role = RefreshableCredentials.create_from_metadata(metadata, lambda: metadata, "assume-role")
    assert find_keys(None, role)().renewed
    assert not find_keys(None, Credentials("a", "s", "t"))().renewed


@pytest.mark.parametrize(
    ("stated", "end"),
    [("2026-12-31T00:00:00Z", 1798675200.0), ("tomorrow", None), (None, None)],
)
def test_when_the_environment_says_that_its_keys_end(stated: str | None, end: float | None) -> None:
    environment = {} if stated is None else {"AWS_CREDENTIAL_EXPIRATION": stated}
    assert credentials_end(environment) == end
