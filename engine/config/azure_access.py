"""What the environment says of an account in Azure: how it is reached, and what opens it.

Read in this order; the first that says something decides, so that nothing is mixed:

    NORIA_SOURCE_... or NORIA_TARGET_...   the variables below, for one end alone
    AZURE_STORAGE_SAS_TOKEN                what stands behind the `?` of a URL
    AZURE_STORAGE_CONNECTION_STRING        UseDevelopmentStorage=true is the emulator
    AZURE_STORAGE_KEY, _ACCOUNT_KEY        the key of AZURE_STORAGE_ACCOUNT or _ACCOUNT_NAME
    whatever azure-identity finds          unless AZURE_STORAGE_AUTH_MODE=key

AZURE_STORAGE_AUTH_MODE and AZURE_STORAGE_SERVICE_ENDPOINT mean what they mean to the az CLI. What
is stated for another account than the end's, or for another service than its URL names, is refused
by name: what is wrong would otherwise be told as a missing right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from noria.engine.config.addresses import azure_account
from noria.engine.config.locations import End, check_endpoint
from noria.manifests.errors import ConfigurationError
from noria.workers.http.environment import read_secret, read_variable

_STRING: Final = "AZURE_STORAGE_CONNECTION_STRING"
_SAS: Final = "AZURE_STORAGE_SAS_TOKEN"
_KEYS: Final = ("AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY")
_ACCOUNTS: Final = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_SERVICE: Final = "AZURE_STORAGE_SERVICE_ENDPOINT"


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureAccess:
    """What was found for one end. Without `sas` and `account_key`, an identity is asked for."""

    endpoint: str | None = None
    """URL of the account's blob service. None: the environment does not say."""
    sas: str | None = field(default=None, repr=False)
    account_key: str | None = field(default=None, repr=False)
    identity_allowed: bool = True


def azure_access(end: End, environment: Mapping[str, str], *, read_only: bool) -> AzureAccess:
    """Read the variables for one end, which is the source if it is `read_only`.

    Raises ConfigurationError if they contradict the end or cannot be read; it repeats no secret.
    """
    own = "NORIA_SOURCE_" if read_only else "NORIA_TARGET_"
    service = _service(end, environment)
    if end.anonymous:
        return AzureAccess(endpoint=service)
    for prefix in (own, ""):
        found = _stated(end, environment, prefix)
        if found is not None:
            return AzureAccess(
                endpoint=found.endpoint or service,
                sas=found.sas,
                account_key=found.account_key,
            )
    mode = read_variable(environment, "AZURE_STORAGE_AUTH_MODE")
    return AzureAccess(endpoint=service, identity_allowed=mode != "key")


def _stated(end: End, environment: Mapping[str, str], prefix: str) -> AzureAccess | None:
    """What variables with this prefix say; None if nothing."""
    sas = read_secret(environment, prefix + _SAS)
    if sas is not None and "://" in sas:
        raise ConfigurationError(f"{prefix}{_SAS} is a whole URL: set what stands behind its `?`")
    text = read_variable(environment, prefix + _STRING)
    if text is not None:
        stated = _connection_string(end, text, prefix + _STRING)
        if sas is None:
            return stated
        return AzureAccess(endpoint=stated.endpoint, sas=sas)
    if sas is not None:
        return AzureAccess(sas=sas)
    names = tuple(prefix + name for name in _KEYS)
    key = read_secret(environment, *names)
    login = read_variable(environment, "AZURE_STORAGE_AUTH_MODE") == "login"
    if key is None or (login and not prefix):
        return None
    account = read_variable(environment, *(prefix + name for name in _ACCOUNTS))
    if account is not None and account != end.location.account:
        raise ConfigurationError(
            f"{prefix}{_ACCOUNTS[0]} is {account}, and {end.location} is of another account: set "
            f"the key of {end.location.account}, {_for_one_end(prefix)}"
        )
    return AzureAccess(account_key=key)


def _connection_string(end: End, text: str, variable: str) -> AzureAccess:
    # The client of a store is loaded if an end needs it.
    from noria.workers.stores.azure.auth import parse_connection_string

    stated = parse_connection_string(text, variable)
    account = end.location.account
    if stated.account not in ("", account):
        raise ConfigurationError(
            f"{variable} is of the account {stated.account}, and {end.location} is of another: "
            f"set the one of {account}, {_for_one_end(variable.partition('AZURE')[0])}"
        )
    named = end.endpoint
    if named is not None and azure_account(named) == account and _differs(named, stated.endpoint):
        raise ConfigurationError(
            f"{variable} says that {account} is at {stated.endpoint}, and the URL that it is at "
            f"{named}: correct one of them"
        )
    return AzureAccess(endpoint=stated.endpoint, sas=stated.sas, account_key=stated.key)


def _differs(named: str, stated: str) -> bool:
    return named.lower().rstrip("/") != stated.lower().rstrip("/")


def _for_one_end(prefix: str) -> str:
    if prefix:
        return "or unset it"
    return "or name it for one end (NORIA_SOURCE_... or NORIA_TARGET_... in front)"


def _service(end: End, environment: Mapping[str, str]) -> str | None:
    value = read_variable(environment, _SERVICE)
    if value is None:
        return None
    try:
        endpoint = check_endpoint(value).rstrip("/")
    except ValueError as error:
        raise ConfigurationError(f"{_SERVICE} is not an endpoint: {error}") from None
    if azure_account(endpoint) not in (None, end.location.account):
        raise ConfigurationError(
            f"{_SERVICE} is {endpoint}, and {end.location} is of another account: unset it, or set "
            "endpoint at one end of a job file"
        )
    return endpoint
