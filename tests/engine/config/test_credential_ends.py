"""When credentials are over, as the environment says; those that are renewed have no end."""

from __future__ import annotations

import pytest

from noria.engine.config.credential_ends import credential_ends
from noria.engine.config.jobfile import EndConfig, JobConfig

AZURE, S3 = "az://account/container", "s3://bucket/2026"
SAS = "sv=2025-01-05&sr=c&sp=rl&se=2026-12-31T06%3A00%3A00Z&sig=c2VjcmV0"
END = 1798696800.0
KEYS = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
    "AWS_SESSION_TOKEN": "token",
    "AWS_CREDENTIAL_EXPIRATION": "2026-12-31T06:00:00Z",
}


def ends(
    environment: dict[str, str], *, source: str = AZURE, target: str = S3, **of_source: bool
) -> dict[str, float]:
    config = JobConfig(source=EndConfig(url=source, **of_source), target=EndConfig(url=target))
    return credential_ends(config, environment)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"AZURE_STORAGE_SAS_TOKEN": SAS}, {"source": END}),
        ({"NORIA_SOURCE_AZURE_STORAGE_SAS_TOKEN": SAS}, {"source": END}),
        ({"NORIA_TARGET_AZURE_STORAGE_SAS_TOKEN": SAS}, {}),
        ({"AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=x"}, {}),
        ({"AZURE_STORAGE_ACCOUNT": "account", "AZURE_STORAGE_KEY": "a2V5"}, {}),
        (KEYS, {"target": END}),
        ({**KEYS, "AWS_CREDENTIAL_EXPIRATION": "soon"}, {}),
        ({"AWS_CREDENTIAL_EXPIRATION": "2026-12-31T06:00:00Z"}, {}),
        ({**KEYS, "AZURE_STORAGE_SAS_TOKEN": SAS}, {"source": END, "target": END}),
        ({"AZURE_STORAGE_ACCOUNT": "another", "AZURE_STORAGE_KEY": "a2V5"}, {}),
    ],
)
def test_each_end_is_told_by_its_own_credentials(
    environment: dict[str, str], expected: dict[str, float]
) -> None:
    assert ends(environment) == expected


def test_who_sends_none_has_none_that_end() -> None:
    assert ends({"AZURE_STORAGE_SAS_TOKEN": SAS}, anonymous=True) == {}


def test_folders_have_none() -> None:
    found = ends(
        {**KEYS, "AZURE_STORAGE_SAS_TOKEN": SAS}, source="file:///lake", target="file:///copy"
    )
    assert found == {}
