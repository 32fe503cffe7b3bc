"""Issue authorizations: from an account key, a SAS, or a token of one of Azure's identities."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.stores.azure.auth import Authorization, Right, parse_connection_string
from noria.workers.stores.azure.sas import account_list_sas, container_sas, creation_sas
from noria.workers.stores.azure.settings import API_VERSION, AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

TOKEN_SCOPE: Final = "https://storage.azure.com/.default"
SAS_HOURS: Final = 12
_READ_RIGHTS: Final = {Right.BLOBS: "rl", Right.TAGS: "rlt"}
_WRITE_RIGHTS: Final = dict.fromkeys((Right.BLOBS, Right.TAGS), "rcwdlt")


def endpoint_and_issuer(
    settings: AzureSettings, credential: TokenCredential | None
) -> tuple[str, Callable[[Right], Authorization]]:
    """Return the account's URL and the function that makes authorizations for it.

    Credentials stay inside the function.
    """
    endpoint = settings.endpoint or f"https://{settings.account}.blob.core.windows.net"
    if credential is not None:
        return endpoint, _tokens(credential)
    sas, key = settings.sas, settings.account_key
    if settings.connection_string:
        parsed = parse_connection_string(settings.connection_string)
        if parsed.account in ("", settings.account):
            endpoint = settings.endpoint or parsed.endpoint
            sas, key = sas or parsed.sas, parsed.key or key
    if settings.anonymous:
        nothing = Authorization()
        return endpoint, lambda _: nothing
    if sas:
        fixed = Authorization(query=sas.removeprefix("?"))
        return endpoint, lambda _: fixed
    if key:
        return endpoint, _signatures(settings, key)
    if not settings.identity_allowed:
        raise ConfigurationError(
            "AZURE_STORAGE_AUTH_MODE=key, and no key: set AZURE_STORAGE_KEY, a connection string "
            "or a SAS, or unset it"
        )
    return endpoint, _tokens(_default_credential(endpoint))


def _signatures(settings: AzureSettings, account_key: str) -> Callable[[Right], Authorization]:
    rights = _READ_RIGHTS if settings.read_only else _WRITE_RIGHTS

    def issue(right: Right) -> Authorization:
        expiry = datetime.now(UTC) + timedelta(hours=SAS_HOURS)
        if right is Right.CONTAINER:
            query = creation_sas(settings.account, account_key, expiry=expiry, version=API_VERSION)
            return Authorization(query=query, expires_at=expiry.timestamp(), of_key=True)
        if right is Right.ACCOUNT:
            query = account_list_sas(
                settings.account, account_key, expiry=expiry, version=API_VERSION
            )
            return Authorization(query=query, expires_at=expiry.timestamp(), of_key=True)
        query = container_sas(
            settings.account,
            settings.container,
            account_key,
            permissions=rights[right],
            expiry=expiry,
            version=API_VERSION,
        )
        return Authorization(query=query, expires_at=expiry.timestamp(), of_key=True)

    return issue


def _tokens(credential: TokenCredential) -> Callable[[Right], Authorization]:
    from azure.core.exceptions import AzureError

    def issue(right: Right) -> Authorization:
        try:
            token = credential.get_token(TOKEN_SCOPE)
        except (AzureError, OSError, ValueError) as error:
            raise AccessDenied(
                f"no token for Azure ({type(error).__name__}): set "
                "AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN, "
                "log in with `az login`, give this machine an identity, or set anonymous = true at "
                "a source that anybody may read"
            ) from error
        return Authorization(
            authorization=f"Bearer {token.token}", expires_at=float(token.expires_on)
        )

    return issue


def _default_credential(endpoint: str) -> TokenCredential:
    """Whatever azure-identity finds, from the authority of the cloud that the endpoint is in."""
    from azure.identity import AzureAuthorityHosts, DefaultAzureCredential

    # It prints what each of its ways lacks, which is mostly not the user's; we say it in one line.
    for name in ("azure.identity", "azure.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    host = (urlsplit(endpoint).hostname or "").rstrip(".")
    authorities = {
        ".core.chinacloudapi.cn": AzureAuthorityHosts.AZURE_CHINA,
        ".core.usgovcloudapi.net": AzureAuthorityHosts.AZURE_GOVERNMENT,
    }
    authority = next(
        ({"authority": name} for tail, name in authorities.items() if host.endswith(tail)), None
    )
    options = {} if authority is None or "AZURE_AUTHORITY_HOST" in os.environ else authority
    try:
        return DefaultAzureCredential(**options)
    except ValueError as error:
        raise ConfigurationError(
            "azure-identity cannot use its variables: correct AZURE_AUTHORITY_HOST, "
            "AZURE_TOKEN_CREDENTIALS, AZURE_TENANT_ID or AZURE_CLIENT_ID"
        ) from error
