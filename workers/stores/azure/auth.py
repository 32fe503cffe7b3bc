"""What authorises a request to Azure, kept fresh: a SAS as query, or a bearer token as header."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from noria.manifests.errors import AccessDenied, ConfigurationError

RENEW_SHARE: Final = 0.8
"""A grant is renewed after this share of its life."""
SETTLE_SECONDS: Final = 60.0
"""A grant younger than this is not renewed because of a refusal: a new one would fare no better."""


class Right(Enum):
    """What a grant has to allow beyond reading and listing (or writing, for a target)."""

    BLOBS = "blobs"
    TAGS = "tags"
    """Tags have a permission of their own, which also allows writing them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """Leave to send requests, until `expires_at` (Unix time)."""

    query: str = field(default="", repr=False)
    authorization: str | None = field(default=None, repr=False)
    expires_at: float = math.inf


class Authorizations:
    """Hands out grants and renews them in time. May be called from many threads."""

    def __init__(self, issue: Callable[[Right], Authorization], clock: Callable[[], float]) -> None:
        """`issue` makes a grant, and raises AccessDenied where it cannot."""
        self._issue = issue
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[Right, tuple[Authorization, float]] = {}

    def get(self, right: Right) -> Authorization:
        """A grant that is good now. Raises AccessDenied."""
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
        """Forget a grant that a store refused. False where it is too young for that to help."""
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
    """What a storage account's connection string holds."""

    account: str
    endpoint: str
    key: str | None = field(repr=False)
    sas: str | None = field(repr=False)


def parse_connection_string(text: str) -> ConnectionString:
    """Raises ConfigurationError; the message never repeats a value."""
    pairs = (pair.partition("=") for pair in text.strip().strip(";").split(";") if pair.strip())
    values: Mapping[str, str] = {name.strip().lower(): value for name, _, value in pairs}
    account = values.get("accountname", "")
    key = values.get("accountkey")
    sas = values.get("sharedaccesssignature")
    if not (key or sas):
        raise ConfigurationError(
            "the connection string holds neither AccountKey nor SharedAccessSignature: "
            "copy it again"
        )
    scheme = values.get("defaultendpointsprotocol", "https")
    suffix = values.get("endpointsuffix", "core.windows.net")
    endpoint = values.get("blobendpoint") or f"{scheme}://{account}.blob.{suffix}"
    if not account:
        account = endpoint.partition("://")[2].partition(".")[0]
    return ConnectionString(account=account, endpoint=endpoint.rstrip("/"), key=key, sas=sas)
