"""Issue authorizations: from an account key, a SAS, or a token of one of Azure's identities."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from noria.manifests.errors import AccessDenied
from noria.workers.stores.azure.auth import Authorization, Right, parse_connection_string
from noria.workers.stores.azure.sas import container_sas
from noria.workers.stores.azure.settings import API_VERSION, AzureSettings

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

TOKEN_SCOPE: Final = "https://storage.azure.com/.default"
SAS_HOURS: Final = 12
_READ_RIGHTS: Final = {Right.BLOBS: "rl", Right.TAGS: "rlt"}
_WRITE_RIGHTS: Final = dict.fromkeys(Right, "rcwdlt")


def endpoint_and_issuer(
    settings: AzureSettings, credential: TokenCredential | None
) -> tuple[str, Callable[[Right], Authorization]]:
    """Return the account's URL and the function that makes authorizations for it.

    Credentials stay inside the function.
    """
    endpoint = settings.endpoint or f"https://{settings.account}.blob.core.windows.net"
    if credential is not None:
        return endpoint, _tokens(credential)
    sas, key = settings.sas, None
    if settings.connection_string:
        parsed = parse_connection_string(settings.connection_string)
        if parsed.account == settings.account:
            endpoint = settings.endpoint or parsed.endpoint
            sas, key = sas or parsed.sas, parsed.key
    if sas:
        fixed = Authorization(query=sas.removeprefix("?"))
        return endpoint, lambda _: fixed
    if key:
        return endpoint, _signatures(settings, key)
    return endpoint, _tokens(_default_credential())


def _signatures(settings: AzureSettings, account_key: str) -> Callable[[Right], Authorization]:
    rights = _READ_RIGHTS if settings.read_only else _WRITE_RIGHTS

    def issue(right: Right) -> Authorization:
        expiry = datetime.now(UTC) + timedelta(hours=SAS_HOURS)
        query = container_sas(
            settings.account,
            settings.container,
            account_key,
            permissions=rights[right],
            expiry=expiry,
            version=API_VERSION,
        )
        return Authorization(query=query, expires_at=expiry.timestamp())

    return issue


def _tokens(credential: TokenCredential) -> Callable[[Right], Authorization]:
    from azure.core.exceptions import AzureError

    def issue(right: Right) -> Authorization:
        try:
            token = credential.get_token(TOKEN_SCOPE)
        except AzureError as error:
            raise AccessDenied(
                f"no token for Azure ({type(error).__name__}): log in, set the connection string, "
                "or give this machine an identity"
            ) from error
        return Authorization(
            authorization=f"Bearer {token.token}", expires_at=float(token.expires_on)
        )

    return issue


def _default_credential() -> TokenCredential:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential()
