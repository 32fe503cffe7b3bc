"""AWS Signature Version 4 for S3. The signing key is kept for a day; bodies are not signed.

A body is protected by its checksum, which the store verifies, and by TLS. A SHA-256 over every body
would cost as much CPU as the rest of a transfer. See "Signature Calculations for the Authorization
Header" in the Amazon S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
"""The body is aws-chunked and ends with a trailer that holds its checksum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """The credentials for one request."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    renewed: bool = False
    """They end, and others take their place without a person."""


class Signer:
    """Signs requests to one host. May be called from many threads."""

    def __init__(self, host: str, region: str, keys: Callable[[], SigningKeys] | None) -> None:
        """Without `keys`, requests stay unsigned: for buckets that anybody may read."""
        self._host = host
        self._region = region
        self._keys = keys
        self._moment = (0, "")
        self._day_mac: tuple[str, str, hmac.HMAC | None] = ("", "", None)

    def sign(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload: str = UNSIGNED_PAYLOAD,
    ) -> dict[str, str]:
        """Return the headers to send, including Authorization.

        `path` must be encoded, `query` encoded and sorted. All `headers` are signed; their names
        must be in lower case.
        """
        if self._keys is None:
            return dict(headers)
        keys = self._keys()
        now = self._now()
        day = now[:8]
        signed = {"host": self._host, **headers}
        signed["x-amz-content-sha256"] = payload
        signed["x-amz-date"] = now
        if keys.token:
            signed["x-amz-security-token"] = keys.token
        names = sorted(signed)
        lines = "".join([f"{name}:{' '.join(signed[name].split())}\n" for name in names])
        name_list = ";".join(names)
        request = f"{method}\n{path}\n{query}\n{lines}\n{name_list}\n{payload}"
        scope = f"{day}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{digest}"
        mac = self._mac_of(day, keys.secret_key)
        mac.update(text.encode())
        del signed["host"]
        signed["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
            f"SignedHeaders={name_list}, Signature={mac.hexdigest()}"
        )
        return signed

    def _now(self) -> str:
        """Return the current time as signatures write it, made once a second."""
        second, text = self._moment
        now = int(time.time())
        if now != second:
            text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            self._moment = (now, text)
        return text

    def _mac_of(self, day: str, secret: str) -> hmac.HMAC:
        """Return a new HMAC with the key of the day.

        It is a copy of one that is kept: that costs less than half of making it from the key.
        """
        known_day, known_secret, mac = self._day_mac
        if mac is None or (known_day, known_secret) != (day, secret):
            key = ("AWS4" + secret).encode()
            for word in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, word.encode(), "sha256")
            mac = hmac.new(key, digestmod="sha256")
            self._day_mac = (day, secret, mac)
        return mac.copy()
