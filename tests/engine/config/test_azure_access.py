"""What variables say of an account in Azure; what contradicts the end is refused by name."""

from __future__ import annotations

import pytest

from noria.engine.config.azure_access import AzureAccess, azure_access
from noria.engine.config.jobfile import EndConfig
from noria.manifests.errors import ConfigurationError
from noria.workers.stores.azure.auth import DEVELOPMENT_KEY, parse_connection_string

KEY = "aHVudGVyMg=="
STRING = f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={KEY}"
OTHER = STRING.replace("acc;", "other;")
AZURE = "https://acc.blob.core.windows.net"


def found(environment: dict[str, str], url: str = "az://acc/c", **more: object) -> AzureAccess:
    end = EndConfig.model_validate({"url": url, **more})
    return azure_access(end, environment, read_only=True)


@pytest.mark.parametrize(
    ("environment", "endpoint", "sas", "key"),
    [
        ({}, None, None, None),
        ({"AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=x\n"}, None, "?sv=1&sig=x", None),
        ({"AZURE_STORAGE_CONNECTION_STRING": f'"{STRING};"\n'}, AZURE, None, KEY),
        ({"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": f"{KEY}\n"}, None, None, KEY),
        ({"AZURE_STORAGE_ACCOUNT_KEY": KEY}, None, None, KEY),
        ({"AZURE_STORAGE_ACCOUNT": "other"}, None, None, None),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": STRING, "AZURE_STORAGE_SAS_TOKEN": "sig=x"},
            AZURE,
            "sig=x",
            None,
        ),
        (
            {
                "AZURE_STORAGE_CONNECTION_STRING": OTHER,
                "NORIA_SOURCE_AZURE_STORAGE_SAS_TOKEN": "sig=x",
            },
            None,
            "sig=x",
            None,
        ),
        (
            {"AZURE_STORAGE_CONNECTION_STRING": OTHER, "NORIA_SOURCE_AZURE_STORAGE_KEY": KEY},
            None,
            None,
            KEY,
        ),
        ({"AZURE_STORAGE_KEY": KEY, "AZURE_STORAGE_AUTH_MODE": "login"}, None, None, None),
        (
            {"AZURE_STORAGE_SERVICE_ENDPOINT": "http://127.0.0.1:1/acc/", "AZURE_STORAGE_KEY": KEY},
            "http://127.0.0.1:1/acc",
            None,
            KEY,
        ),
    ],
)
def test_what_is_found(
    environment: dict[str, str], endpoint: str | None, sas: str | None, key: str | None
) -> None:
    access = found(environment)
    assert (access.endpoint, access.sas, access.account_key) == (endpoint, sas, key)
    assert KEY not in repr(access)
    assert "sig" not in repr(access)


@pytest.mark.parametrize(
    ("environment", "word"),
    [
        ({"AZURE_STORAGE_CONNECTION_STRING": OTHER}, "AZURE_STORAGE_CONNECTION_STRING is of"),
        (
            {"NORIA_SOURCE_AZURE_STORAGE_CONNECTION_STRING": OTHER},
            "NORIA_SOURCE_AZURE_STORAGE_CONNECTION_STRING is of",
        ),
        ({"AZURE_STORAGE_ACCOUNT": "other", "AZURE_STORAGE_KEY": KEY}, "AZURE_STORAGE_ACCOUNT is"),
        ({"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=acc;Secret={KEY}"}, "CONNECTION_STRING"),
        ({"AZURE_STORAGE_SAS_TOKEN": f"{AZURE}/c?sig=hunter2"}, "AZURE_STORAGE_SAS_TOKEN"),
        ({"AZURE_STORAGE_SERVICE_ENDPOINT": AZURE.replace("acc", "other")}, "SERVICE_ENDPOINT"),
        ({"AZURE_STORAGE_SERVICE_ENDPOINT": "acc"}, "SERVICE_ENDPOINT"),
    ],
)
def test_what_contradicts_the_end_is_refused(environment: dict[str, str], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        found(environment)
    assert "\n" not in caught.value.message
    assert KEY not in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_connection_string_of_another_cloud_than_the_url() -> None:
    environment = {
        "AZURE_STORAGE_CONNECTION_STRING": f"{STRING};EndpointSuffix=core.chinacloudapi.cn"
    }
    assert found(environment).endpoint == "https://acc.blob.core.chinacloudapi.cn"
    with pytest.raises(ConfigurationError, match=r"chinacloudapi.*windows\.net"):
        found(environment, f"{AZURE}/c")
    # A gateway of one's own is no other cloud.
    assert found(environment, endpoint="http://127.0.0.1:1").account_key == KEY


def test_the_emulator() -> None:
    string = {"AZURE_STORAGE_CONNECTION_STRING": " UseDevelopmentStorage=true\n"}
    access = found(string, "az://devstoreaccount1/c")
    assert access.endpoint == "http://127.0.0.1:10000/devstoreaccount1"
    assert access.account_key == DEVELOPMENT_KEY
    with pytest.raises(ConfigurationError, match="devstoreaccount1"):
        found(string)
    elsewhere = parse_connection_string(
        "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite/"
    )
    assert elsewhere.endpoint == "http://azurite:10000/devstoreaccount1"


def test_nobody_is_asked_where_keys_alone_are_wanted() -> None:
    assert found({}).identity_allowed
    assert not found({"AZURE_STORAGE_AUTH_MODE": "key"}).identity_allowed


def test_an_anonymous_end_takes_no_credential() -> None:
    environment = {"AZURE_STORAGE_CONNECTION_STRING": STRING, "AZURE_STORAGE_SAS_TOKEN": "sig=x"}
    access = found(environment, anonymous=True)
    assert (access.sas, access.account_key) == (None, None)
