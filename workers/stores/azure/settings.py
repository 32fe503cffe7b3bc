"""How a container in Azure is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from noria.workers.http.proxies import NO_PROXIES, Proxies

API_VERSION: Final = "2023-11-03"
"""Has everything that is used here, and every endpoint of today knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSettings:
    """One container and how to reach it.

    Requests are authorised by the first of these that is set: `anonymous`; `sas`; the SAS or the
    key of `connection_string`, if it is of this account; `account_key`; an identity
    (DefaultAzureCredential).
    """

    account: str
    container: str
    endpoint: str | None = None
    """URL of the account's blob service. None: the connection string's, else the public cloud's."""
    connection_string: str | None = field(default=None, repr=False)
    sas: str | None = field(default=None, repr=False)
    account_key: str | None = field(default=None, repr=False)
    anonymous: bool = False
    """Send no credential: for containers that anybody may read."""
    identity_allowed: bool = True
    """False: do not look for an identity if there is no other credential."""
    read_only: bool = False
    """True: a SAS made from an account key allows no more than reading (the source role)."""
    ask_crc64: bool = True
    """Request the CRC64 of all bytes read, as a structured message. Reads work without it too."""
    tier: str | None = None
    """Access tier of written blobs. None: the account's default.

    CLASS_OF_SOURCE: as the attributes say.
    """
    page_keys: int = 5000
    """Most entries in one page of a list."""
    ca_bundle: str | None = None
    proxies: Proxies = NO_PROXIES
    allow_plain_http: bool = False
    idle_seconds: float = 60.0
    least_rate: float = 1024.0
    """See HttpSettings."""
