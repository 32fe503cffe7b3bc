"""Time stamps of RFC 3161: asked for, and compared with what they are of.

That an authority has signed one, and which, is for `openssl ts -verify`, with roots that its user
trusts: see docs/pages/how-to/prove.md.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from noria.manifests.errors import ConfigurationError

# What reads DER takes a tenth of a second to load, and most jobs ask nobody for a time stamp.
if TYPE_CHECKING:
    from pyasn1_modules.rfc3161 import TSTInfo

ANSWER_SECONDS: Final = 30.0
ANSWER_BYTES_MAX: Final = 1 << 20
"""An answer with the authority's certificates has 10 kB."""
_URL: Final = re.compile(r"https?://[^\s@]+")
_NONCE_BITS: Final = 63
_SHA256: Final = "2.16.840.1.101.3.4.2.1"
_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_TIME_STAMP: Final = "1.2.840.113549.1.9.16.1.4"
_GRANTED: Final = (0, 1)
_SAID_LETTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStamp:
    """What a time stamp says. Who signed it was not looked at."""

    digest: bytes
    """SHA-256 of what was stamped."""
    seconds: int
    """When, as Unix time."""
    nonce: int | None


def check_timestamp_url(url: str) -> None:
    """Raise ConfigurationError for an address that no authority can have."""
    if not _URL.fullmatch(url) or not urlsplit(url).hostname:
        raise ConfigurationError(
            "the address of a time-stamping authority is http:// or https://, a host, and no user"
        )


def ask_for_time_stamp(url: str, data: bytes) -> bytes:
    """A time stamp of these bytes: the whole answer of the authority at `url`, in DER.

    Its status, digest and nonce are those that were asked for. Raises ConfigurationError if the
    authority is not reached, refuses, or answers something else. Only the digest is sent.
    """
    check_timestamp_url(url)
    nonce = secrets.randbits(_NONCE_BITS)
    digest = hashlib.sha256(data).digest()
    host = urlsplit(url).hostname
    answer = _post(url, _request(digest, nonce), f"no time stamp from {host}")
    try:
        stamp = read_time_stamp(answer)
    except ValueError as error:
        raise ConfigurationError(f"no time stamp from {host}: {error}") from error
    if (stamp.digest, stamp.nonce) != (digest, nonce):
        raise ConfigurationError(
            f"the time stamp from {host} is of something else than what was sent: it is not kept"
        )
    return answer


def read_time_stamp(answer: bytes) -> TimeStamp:
    """What an authority's answer says. Raises ValueError if that is not a time stamp."""
    from pyasn1.error import PyAsn1Error

    try:
        stated = _token(answer)
        imprint, nonce = stated["messageImprint"], stated["nonce"]
        if str(imprint["hashAlgorithm"]["algorithm"]) != _SHA256:
            raise ValueError("it is of another digest than SHA-256")
        return TimeStamp(
            digest=bytes(imprint["hashedMessage"]),
            seconds=int(stated["genTime"].asDateTime.timestamp()),
            nonce=int(nonce) if nonce.hasValue() else None,
        )
    except (PyAsn1Error, RecursionError) as error:
        raise ValueError("it is not an answer of a time-stamping authority") from error


def _request(digest: bytes, nonce: int) -> bytes:
    from pyasn1.codec.der.encoder import encode
    from pyasn1.type.univ import ObjectIdentifier
    from pyasn1_modules.rfc3161 import TimeStampReq

    asked = TimeStampReq()
    asked["version"] = 1
    asked["messageImprint"]["hashAlgorithm"]["algorithm"] = ObjectIdentifier(_SHA256)
    asked["messageImprint"]["hashedMessage"] = digest
    asked["nonce"] = nonce
    asked["certReq"] = True
    return bytes(encode(asked))


def _token(answer: bytes) -> TSTInfo:
    from pyasn1_modules.rfc3161 import TimeStampResp, TSTInfo
    from pyasn1_modules.rfc5652 import SignedData

    response = _decoded(answer, TimeStampResp())
    status = response["status"]
    if int(status["status"]) not in _GRANTED:
        raise ValueError(f"it refuses: {_said(status)}")
    token = response["timeStampToken"]
    if not token.hasValue() or str(token["contentType"]) != _SIGNED_DATA:
        raise ValueError("it has answered without a time stamp")
    content = _decoded(token["content"], SignedData())["encapContentInfo"]
    if str(content["eContentType"]) != _TIME_STAMP:
        raise ValueError("it has signed something else than a time stamp")
    return _decoded(content["eContent"], TSTInfo())


def _decoded(data: Any, kind: Any) -> Any:
    """As BER, of which DER is a part: authorities write sets in another order, which CMS allows."""
    from pyasn1.codec.ber.decoder import decode

    value, rest = decode(data, asn1Spec=kind)
    if rest:
        raise ValueError("its answer goes on after the end")
    return value


def _said(status: Any) -> str:
    """Why an authority refuses, in its own words, as far as they can be printed."""
    strings = status["statusString"]
    words = " ".join(str(each) for each in strings) if strings.hasValue() else ""
    plain = "".join(sign if sign.isprintable() else " " for sign in words).strip()
    return plain[:_SAID_LETTERS_MAX] or f"status {int(status['status'])}"


def _post(url: str, request: bytes, trouble: str) -> bytes:
    """The body of a 200. Raises ConfigurationError, which begins with `trouble`, otherwise."""
    # It takes as long to load as all that a driver needs otherwise.
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, build_opener

    headers = {"Content-Type": "application/timestamp-query", "User-Agent": "noria"}
    try:
        # From Python 3.12 on, urlopen() keeps the certificates that it read first.
        opener = build_opener()
        with opener.open(Request(url, request, headers), timeout=ANSWER_SECONDS) as response:
            answer: bytes = response.read(ANSWER_BYTES_MAX + 1)
    except HTTPError as error:
        error.close()
        raise ConfigurationError(f"{trouble}: it answers HTTP {error.code}") from error
    except URLError as error:
        raise ConfigurationError(f"{trouble}: {_reason(error.reason)}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise ConfigurationError(f"{trouble}: {_reason(error)}") from error
    if len(answer) > ANSWER_BYTES_MAX:
        raise ConfigurationError(f"{trouble}: its answer is too long")
    return answer


def _reason(error: object) -> str:
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "".join(sign for sign in str(words) if sign.isprintable())[:_SAID_LETTERS_MAX]
