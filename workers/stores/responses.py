"""Checks and errors that responses of S3 and of Azure Blob have in common."""

from __future__ import annotations

import base64
import hashlib
import re
from calendar import month_abbr, timegm
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache, wraps
from typing import Final, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import (
    AccessDenied,
    ClockSkewed,
    ConfigurationError,
    NoriaError,
    OutcomeUnknown,
    ShortBody,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
    StoreUnavailable,
    TagsDenied,
    TagsRefused,
    TargetConflict,
    TargetRefused,
    Throttled,
    UploadLost,
)
from noria.workers.http.client import TransportError
from noria.workers.http.connection import OnBytes
from noria.workers.http.response import Response
from noria.workers.stores.protocol import ObjectHead, ReadListener, TargetCapabilities

Given = ParamSpec("Given")
Read = TypeVar("Read")

RETRY_AFTER_MAX_SECONDS: Final = 300.0
"""Longest pause that a store may ask for."""
CLOCK_LIMIT_SECONDS: Final = 60.0
"""Stores refuse signatures from 15 minutes on; a clock that is a minute off is already broken."""

DATES_KEPT: Final = 4096
"""Parsed dates to cache: objects that were written together have the same time."""

_HTTP_DATE = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")
"""The form that servers must write (RFC 9110, 5.6.7).

email.utils also reads all older forms, but takes twice the time.
"""
_MONTHS: Final = {name: number for number, name in enumerate(month_abbr) if name}

_NO_RIGHT: Final = (
    "",
    "AccessDenied",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
    "InsufficientAccountPermissions",
)
"""Codes of a 403 that is not about the credentials as such."""
_NO_TAGS_CODES: Final = re.compile(r"Tag|^FeatureNot(YetSupported|Enabled)")
"""Codes of refusals that are about the tags of a write, if it has some: InvalidTag, InvalidTags and
what accounts with folders answer."""
_TAG_HEADERS: Final = (b"x-amz-tagging", b"x-ms-tags")
"""Named by stores that refuse a header by its name, whatever their code."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


class Purpose(Enum):
    """What a request was for, as far as that changes the meaning of a failure."""

    READ = "read"
    WRITE = "write"
    """Makes an object from one body."""
    PART = "part"
    """Sends a part. May be repeated: the same part replaces the first one."""
    COMMIT = "commit"
    """Makes an object from parts."""
    OPEN = "open"
    """Opens a multipart upload. If the response is lost, an upload without parts stays open."""
    CONTROL = "control"
    """Lists and deletes. May be repeated."""

    @property
    def makes_object(self) -> bool:
        return self in (Purpose.WRITE, Purpose.COMMIT)


def error_without_response(error: TransportError, purpose: Purpose, key: str | None) -> NoriaError:
    """Return the error for a request without a response.

    The outcome is unknown if a whole write was sent; otherwise nothing happened.
    """
    if purpose.makes_object and error.sent:
        return OutcomeUnknown(
            f"no answer to a {purpose.value} that was sent ({error}): look at the target", key=key
        )
    return StoreUnavailable(f"no answer to a {purpose.value} ({error}): try again", key=key)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds; None if it is absent or a date."""
    value = headers.get("retry-after", "")
    return min(float(value), RETRY_AFTER_MAX_SECONDS) if value.isdecimal() else None


def on_bytes_of(listener: ReadListener | None) -> OnBytes | None:
    """Return the function that an exchange calls with the pieces of a body."""
    return None if listener is None else listener.update


def malformed_is_unavailable(of: str) -> Callable[[Callable[Given, Read]], Callable[Given, Read]]:
    """Decorate a function that parses a successful response.

    If the response cannot be parsed, it raises StoreUnavailable, as if there were no response.
    """

    def decorate(read: Callable[Given, Read]) -> Callable[Given, Read]:
        @wraps(read)
        def reading(*args: Given.args, **named: Given.kwargs) -> Read:
            try:
                return read(*args, **named)
            except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
                # Some of these messages repeat their input, which may be an object's name.
                raise StoreUnavailable(
                    f"the store's answer cannot be read as {of} ({type(error).__name__}): try "
                    "again, or check that the endpoint is that of a store"
                ) from None

        return reading

    return decorate


def md5_header(body: memoryview | bytes) -> str:
    """Return Content-MD5 (RFC 1864), which protects against damage, not against attackers."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def plain_etag(value: str) -> str:
    """Return an ETag without quotes and W/."""
    return value.removeprefix("W/").strip('"')


def plain_etags(values: pa.Array) -> pa.Array:
    """Return each as plain_etag() does; a null becomes an empty string."""
    values = pc.fill_null(values, "")
    if pc.any(pc.starts_with(values, "W/")).as_py():
        values = pc.replace_substring_regex(values, "^W/", "")
    return pc.utf8_trim(values, '"')


def modified_seconds(headers: Mapping[str, str]) -> float | None:
    """Return Last-Modified as Unix time; None if it is absent or not a date."""
    value = headers.get("last-modified")
    return _unix_seconds(value) if value else None


@lru_cache(DATES_KEPT)
def _unix_seconds(date: str) -> float | None:
    found = _HTTP_DATE.fullmatch(date)
    try:
        if found is None:
            return parsedate_to_datetime(date).timestamp()
        day, month, year, hours, minutes, seconds = found.groups()
        moment = (int(year), _MONTHS[month], int(day), int(hours), int(minutes), int(seconds))
        return float(timegm(moment))
    except (ValueError, KeyError, OverflowError):
        return None


def clock_offset(response: Response, now: float) -> float | None:
    """Return by how many seconds `now` (Unix time) is ahead of the response's Date, if it has one.

    Less than a second is nothing: Date has whole seconds.
    """
    value = response.headers.get("date")
    if value is None:
        return None
    try:
        return now - parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def check_clock(response: Response, now: float) -> None:
    """Raise ClockSkewed if the response's Date is too far from `now` (Unix time)."""
    offset = clock_offset(response, now)
    if offset is not None and abs(offset) > CLOCK_LIMIT_SECONDS:
        raise ClockSkewed(
            f"this machine's clock is {offset:+.0f} s off the store's: set it (NTP), then run again"
        )


def check_range(response: Response, *, offset: int, size: int, key: str) -> int:
    """Check that the response is exactly the requested range; return the size of the whole object.

    Content-Range decides, not the status: `rclone serve s3` answers ranges with 200. Raises
    ShortBody if the range was ignored, shifted or cut, and SourceChanged if the object is too short
    for it.
    """
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None:
        raise ShortBody(
            f"a range was requested, but the answer ({response.status}) has none: try again",
            key=key,
        )
    first, last, whole = map(int, found.groups())
    if whole < offset + size:
        raise SourceChanged(
            f"the object has {whole} bytes, fewer than planned: plan again", key=key
        )
    if (first, last) != (offset, offset + size - 1):
        raise ShortBody(
            f"bytes {offset}-{offset + size - 1} were requested, not {first}-{last}: try again",
            key=key,
        )
    if not response.filled:
        raise ShortBody(
            f"{size} bytes were requested, the answer has another length: try again", key=key
        )
    return whole


def check_whole(
    response: Response, *, size: int, pinned: bool, key: str, carried: str | None = None
) -> None:
    """Check that a GET without Range brought exactly `size` bytes.

    `carried` is the number of bytes that the response states, if it differs from Content-Length.
    Raises SourceChanged if the object has another size than planned, and ShortBody if it is the
    pinned object but came in another length.
    """
    if response.filled:
        return
    came = carried or response.headers.get("content-length", "an unknown number of")
    if pinned:
        raise ShortBody(f"the answer has {came} bytes, the plan says {size}: try again", key=key)
    raise SourceChanged(f"the object has {came} bytes, the plan says {size}: plan again", key=key)


def check_pinned(response: Response, etag: str | None, key: str) -> None:
    """Check that the object read has the planned ETag, even if the store ignores If-Match."""
    if etag is not None and plain_etag(response.headers.get("etag", "")) != etag:
        raise SourceChanged("the object's ETag is not the planned one: plan again", key=key)


def condition_headers(capabilities: TargetCapabilities, replaces: str | None) -> dict[str, str]:
    """Return the condition of a write, as far as the target is known to honour it.

    `replaces` is the ETag of what is to be replaced; None: nothing may be there.
    """
    if replaces is not None:
        return {"if-match": f'"{replaces}"'} if capabilities.if_match else {}
    return {"if-none-match": "*"} if capabilities.if_absent else {}


def check_standing(head: ObjectHead | None, etag: str, key: str) -> None:
    """Raise TargetConflict unless the object with this ETag is at the target."""
    if head is None:
        raise TargetConflict("nothing is at the target under this name", key=key)
    if head.etag != etag:
        raise TargetConflict("another object is at the target under this name", key=key)


def by_status(status: int, purpose: Purpose) -> tuple[type[NoriaError], str]:
    """Return the error and the next step for a status whose error code is not known.

    An unknown status is permanent.
    """
    if 300 <= status < 400:
        return ConfigurationError, "redirects are not followed: correct the region and the endpoint"
    if status in (401, 403):
        return AccessDenied, "check the credentials and their rights here"
    if status == 404:
        return _missing(purpose)
    if status == 412:
        return _precondition(purpose)
    if status == 416:
        return SourceChanged, "the object is shorter than planned: plan again"
    if status in (429, 503):
        return Throttled, "slow down"
    if status in (408, 423, 507):
        return StoreUnavailable, "try again"
    # A success whose content cannot be right counts as no response.
    if status < 300 or (status >= 500 and status != 501):
        if purpose.makes_object:
            return OutcomeUnknown, "look at the target"
        return StoreUnavailable, "try again"
    return permanent(purpose)


def raise_if_of_tags(response: Response, code: str, purpose: Purpose, key: str) -> None:
    """Raise the error for a refusal of a write with tags that may be meant for the tags.

    A store without tags answers 501, one where the right to write tags is missing 403, and neither
    names them. Others name the header, or have a code for it. `code` is the store's own.
    """
    named = _NO_TAGS_CODES.search(code) or any(name in response.body for name in _TAG_HEADERS)
    if response.status == 501 or (400 <= response.status < 500 and named):
        answer = " ".join(filter(None, (str(response.status), code)))
        raise TagsRefused(
            f"the store answered a {purpose.value} with tags with {answer}: it has none, or not "
            "these; set run.unfit_tags to leave, then the objects land without tags",
            key=key,
        )
    if response.status == 403 and code in _NO_RIGHT:
        raise TagsDenied(
            f"the store answered a {purpose.value} with tags with 403: grant the right to write "
            "tags (s3:PutObjectTagging; t in a SAS) beside that to write, or set run.unfit_tags to "
            "leave",
            key=key,
        )


def _missing(purpose: Purpose) -> tuple[type[NoriaError], str]:
    if purpose is Purpose.READ:
        return SourceMissing, "plan again if it was not meant to be deleted"
    if purpose in (Purpose.PART, Purpose.COMMIT):
        return UploadLost, "start another upload"
    return ConfigurationError, "check the endpoint and the bucket's or container's name"


def _precondition(purpose: Purpose) -> tuple[type[NoriaError], str]:
    if purpose.makes_object:
        return TargetConflict, "an object exists there already"
    if purpose is Purpose.READ:
        return SourceChanged, "plan again"
    if purpose is Purpose.CONTROL:
        return TargetConflict, "another object is there now"
    return permanent(purpose)


def permanent(purpose: Purpose) -> tuple[type[NoriaError], str]:
    """Return the error and the next step for a refusal that another try would not change."""
    if purpose is Purpose.READ:
        return SourceUnreadable, "the object may be archived or have its own key: see the code"
    if purpose is Purpose.CONTROL:
        return ConfigurationError, "check the endpoint and what the store supports"
    return TargetRefused, "the target cannot take this object: see the code"
