"""Keys and region of the environment, against what botocore's chain finds in the same one."""

from __future__ import annotations

import os
from pathlib import Path

import botocore.session
import pytest

from noria.workers.stores.s3.credentials import environment_keys, environment_region

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
        {"AWS_REGION": "eu-north-1"},
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
