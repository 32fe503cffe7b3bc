"""Authorise requests to Azure by a SAS or a bearer token, and renew both in time."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.http.environment import bare

RENEW_SHARE: Final = 0.8
"""An authorization is renewed after this share of its life."""
DEVELOPMENT_ACCOUNT: Final = "devstoreaccount1"
DEVELOPMENT_KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Of every emulator of Azure Storage: they are published, and open nothing else.

See "Use the Azurite emulator" in the Azure Storage reference.
"""
SETTLE_SECONDS: Final = 60.0
"""If a younger authorization is refused it is not renewed: a new one would be refused too."""


class Right(Enum):
    """What an authorization must allow: reading and listing (writing, for a target), or more."""

    BLOBS = "blobs"
    TAGS = "tags"
    """The same and tags, which have a permission of their own that also allows writing them."""
    CONTAINER = "container"
    """Making the container, which a SAS for it never allows."""
    ACCOUNT = "account"
    """Listing the containers of the account, which neither does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Permission to send requests until `expires_at` (Unix time)."""

    query: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)
    expires_at: float = math.inf
    of_key: bool = False
    """Made from the account's key, with which anything may be done."""

    @property
    def kind(self) -> str:
        """What it comes from, in words."""
        if self.of_key:
            return "the account's key"
        if self.authorization is not None:
            return "an identity's token"
        return "a SAS" if self.query else "none"

    @property
    def renews(self) -> bool:
        return self.expires_at != math.inf

    @property
    def ends_at(self) -> float | None:
        """Unix time; None if it does not end, does not say so, or is made from a key."""
        if self.of_key:
            return None
        if self.expires_at != math.inf:
            return self.expires_at
        for name, value in parse_qsl(self.query):
            if name == "se":
                with contextlib.suppress(ValueError):
                    moment = datetime.fromisoformat(value)
                    # A date alone is midnight in UTC.
                    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        return None


class Authorizations:
    """Hands out authorizations and renews them in time. May be called from many threads."""

    def __init__(self, issue: Callable[[Right], Authorization], clock: Callable[[], float]) -> None:
        """`issue` makes an authorization, and raises AccessDenied if it cannot."""
        self._issue = issue
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[Right, tuple[Authorization, float]] = {}

    def get(self, right: Right) -> Authorization:
        """Return an authorization that is valid now. Raises AccessDenied."""
        now = self._clock()
        held = self._held.get(right)
        if held is not None and now < _renew_at(*held):
            return held[0]
        with self._lock:
            held = self._held.get(right)
            if held is not None and now < _renew_at(*held):
                return held[0]
            try:
                authorization = self._issue(right)
            except AccessDenied:
                if held is not None and now < held[0].expires_at:
                    return held[0]
                raise
            self._held[right] = (authorization, now)
            return authorization

    def drop(self, right: Right, authorization: Authorization) -> bool:
        """Forget an authorization that a store refused.

        Returns False if a new one would not help: it never expires, or it is younger than
        SETTLE_SECONDS.
        """
        with self._lock:
            held = self._held.get(right)
            if held is None or held[0] is not authorization:
                return True
            if authorization.expires_at == math.inf or self._clock() - held[1] < SETTLE_SECONDS:
                return False
            del self._held[right]
            return True


def _renew_at(authorization: Authorization, issued_at: float) -> float:
    return issued_at + RENEW_SHARE * (authorization.expires_at - issued_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionString:
    """The values in a storage account's connection string."""

    account: str
    endpoint: str
    key: str | None = field(repr=False)
    sas: str | None = field(repr=False)


def parse_connection_string(text: str, variable: str = "the connection string") -> ConnectionString:
    """Parse a connection string. Raises ConfigurationError, whose message repeats no value.

    The account is empty if nothing in it says which it is: a SAS for a domain of one's own.
    """
    pairs = (pair.partition("=") for pair in bare(text).strip(";").split(";") if pair.strip())
    values: dict[str, str] = {name.strip().lower(): bare(value) for name, _, value in pairs}
    if values.get("usedevelopmentstorage", "").lower() == "true":
        proxy = values.get("developmentstorageproxyuri", "http://127.0.0.1").rstrip("/")
        values = {
            "accountname": DEVELOPMENT_ACCOUNT,
            "accountkey": DEVELOPMENT_KEY,
            "blobendpoint": f"{proxy}:10000/{DEVELOPMENT_ACCOUNT}",
        }
    account = values.get("accountname", "")
    key = values.get("accountkey")
    sas = values.get("sharedaccesssignature")
    if not (key or sas):
        raise ConfigurationError(
            f"{variable} has neither AccountKey nor SharedAccessSignature: copy it again"
        )
    scheme = values.get("defaultendpointsprotocol", "https")
    suffix = values.get("endpointsuffix", "core.windows.net")
    endpoint = values.get("blobendpoint") or f"{scheme}://{account}.blob.{suffix}"
    return ConnectionString(
        account=account or _account_of(endpoint), endpoint=endpoint.rstrip("/"), key=key, sas=sas
    )


def _account_of(endpoint: str) -> str:
    host, _, path = endpoint.partition("://")[2].partition("/")
    before, is_azure, _ = host.partition(".blob.")
    if is_azure:
        return before.partition(".")[0].removesuffix("-secondary")
    return path.partition("/")[0]
