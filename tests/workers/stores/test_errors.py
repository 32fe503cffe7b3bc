"""Which error a status and a code become, for what no server at hand can be made to say."""

from __future__ import annotations

import pytest

from noria.manifests.errors import (
    AccessDenied,
    ClockSkewed,
    ConfigurationError,
    ContainerMissing,
    DigestRefused,
    NoriaError,
    OutcomeUnknown,
    SourceChanged,
    SourceMissing,
    SourceUnreadable,
    StoreUnavailable,
    TargetConflict,
    TargetRefused,
    Throttled,
    UploadLost,
)
from noria.workers.http.client import TransportError
from noria.workers.http.response import Response
from noria.workers.stores.azure import errors as azure_refusals
from noria.workers.stores.responses import Purpose, check_clock, check_range, error_without_response
from noria.workers.stores.s3 import errors as s3_refusals

S3 = [
    (503, "SlowDown", Purpose.PART, Throttled),
    (429, "TooManyRequests", Purpose.WRITE, Throttled),
    (429, "", Purpose.READ, Throttled),
    (503, "", Purpose.COMMIT, Throttled),
    (500, "InternalError", Purpose.READ, StoreUnavailable),
    (500, "InternalError", Purpose.PART, StoreUnavailable),
    (500, "InternalError", Purpose.WRITE, OutcomeUnknown),
    (500, "InternalError", Purpose.COMMIT, OutcomeUnknown),
    (502, "", Purpose.COMMIT, OutcomeUnknown),
    (200, "InternalError", Purpose.COMMIT, OutcomeUnknown),
    (200, "BadDigest", Purpose.COMMIT, DigestRefused),
    (200, "NoSuchUpload", Purpose.COMMIT, UploadLost),
    (200, "", Purpose.COMMIT, OutcomeUnknown),
    (200, "", Purpose.WRITE, OutcomeUnknown),
    (200, "", Purpose.PART, StoreUnavailable),
    (404, "NoSuchUpload", Purpose.PART, UploadLost),
    (400, "InvalidPart", Purpose.COMMIT, UploadLost),
    (400, "InvalidPartOrder", Purpose.COMMIT, UploadLost),
    (400, "EntityTooSmall", Purpose.COMMIT, ConfigurationError),
    (400, "RequestTimeout", Purpose.PART, StoreUnavailable),
    (400, "IncompleteBody", Purpose.PART, DigestRefused),
    (400, "BadDigest", Purpose.PART, DigestRefused),
    (400, "InvalidDigest", Purpose.WRITE, DigestRefused),
    (403, "RequestTimeTooSkewed", Purpose.READ, ClockSkewed),
    (403, "SignatureDoesNotMatch", Purpose.READ, AccessDenied),
    (400, "ExpiredToken", Purpose.PART, AccessDenied),
    (403, "", Purpose.READ, AccessDenied),
    (403, "InvalidObjectState", Purpose.READ, SourceUnreadable),
    (400, "InvalidRequest", Purpose.READ, SourceUnreadable),
    (412, "PreconditionFailed", Purpose.WRITE, TargetConflict),
    (412, "PreconditionFailed", Purpose.COMMIT, TargetConflict),
    (412, "PreconditionFailed", Purpose.READ, SourceChanged),
    (409, "ConditionalRequestConflict", Purpose.COMMIT, UploadLost),
    (409, "ConditionalRequestConflict", Purpose.WRITE, StoreUnavailable),
    (409, "OperationAborted", Purpose.PART, StoreUnavailable),
    (416, "InvalidRange", Purpose.READ, SourceChanged),
    (404, "NoSuchKey", Purpose.READ, SourceMissing),
    (404, "", Purpose.READ, SourceMissing),
    (404, "NoSuchBucket", Purpose.READ, ContainerMissing),
    (404, "NoSuchBucket", Purpose.WRITE, ContainerMissing),
    (301, "PermanentRedirect", Purpose.READ, ConfigurationError),
    (307, "TemporaryRedirect", Purpose.READ, StoreUnavailable),
    (307, "TemporaryRedirect", Purpose.WRITE, StoreUnavailable),
    (307, "", Purpose.PART, ConfigurationError),
    (400, "KeyTooLongError", Purpose.WRITE, TargetRefused),
    (400, "MetadataTooLarge", Purpose.OPEN, TargetRefused),
    (400, "InvalidArgument", Purpose.PART, TargetRefused),
    (501, "NotImplemented", Purpose.PART, UploadLost),
    (501, "NotImplemented", Purpose.WRITE, TargetRefused),
    (507, "", Purpose.WRITE, StoreUnavailable),
    (418, "Teapot", Purpose.CONTROL, ConfigurationError),
]

AZURE = [
    (503, "ServerBusy", Purpose.READ, Throttled),
    (429, "", Purpose.READ, Throttled),
    (500, "OperationTimedOut", Purpose.READ, StoreUnavailable),
    (500, "OperationTimedOut", Purpose.WRITE, OutcomeUnknown),
    (500, "InternalError", Purpose.COMMIT, OutcomeUnknown),
    (412, "ConditionNotMet", Purpose.READ, SourceChanged),
    (412, "ConditionNotMet", Purpose.COMMIT, TargetConflict),
    (409, "BlobAlreadyExists", Purpose.WRITE, TargetConflict),
    (403, "UnauthorizedBlobOverwrite", Purpose.WRITE, TargetConflict),
    (409, "BlobArchived", Purpose.READ, SourceUnreadable),
    (409, "BlobBeingRehydrated", Purpose.READ, SourceUnreadable),
    (409, "BlobUsesCustomerSpecifiedEncryption", Purpose.READ, SourceUnreadable),
    (404, "BlobNotFound", Purpose.READ, SourceMissing),
    (404, "ContainerNotFound", Purpose.READ, ContainerMissing),
    (403, "AuthenticationFailed", Purpose.READ, AccessDenied),
    (401, "InvalidAuthenticationInfo", Purpose.READ, AccessDenied),
    (403, "AuthorizationPermissionMismatch", Purpose.READ, AccessDenied),
    (403, "KeyBasedAuthenticationNotPermitted", Purpose.READ, AccessDenied),
    (400, "Md5Mismatch", Purpose.PART, DigestRefused),
    (400, "Crc64Mismatch", Purpose.WRITE, DigestRefused),
    (400, "InvalidBlockList", Purpose.COMMIT, UploadLost),
    (400, "InvalidBlobOrBlock", Purpose.PART, TargetRefused),
    (412, "LeaseIdMissing", Purpose.WRITE, TargetRefused),
    (409, "BlobImmutableDueToPolicy", Purpose.WRITE, TargetRefused),
    (400, "InvalidMetadata", Purpose.COMMIT, TargetRefused),
    (413, "RequestBodyTooLarge", Purpose.WRITE, TargetRefused),
    (416, "InvalidRange", Purpose.READ, SourceChanged),
    (400, "InvalidUri", Purpose.READ, SourceUnreadable),
]


@pytest.mark.parametrize(("status", "code", "purpose", "kind"), S3)
def test_s3(status: int, code: str, purpose: Purpose, kind: type[NoriaError]) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    headers = {"retry-after": "7", "x-amz-request-id": "R1"}
    error = s3_refusals.refusal(
        Response(status=status, headers=headers, body=body), purpose, "private-7"
    )
    _check(error, kind, code)


@pytest.mark.parametrize(("status", "code", "purpose", "kind"), AZURE)
def test_azure(status: int, code: str, purpose: Purpose, kind: type[NoriaError]) -> None:
    headers = {"retry-after": "7", "x-ms-request-id": "R1", "x-ms-error-code": code}
    error = azure_refusals.refusal(Response(status=status, headers=headers), purpose, "private-7")
    _check(error, kind, code)


def _check(error: NoriaError, kind: type[NoriaError], code: str) -> None:
    assert type(error) is kind
    assert error.key == "private-7"
    assert code in error.message
    assert "R1" in error.message
    assert "private-7" not in error.message
    if isinstance(error, Throttled):
        assert error.retry_after_seconds == 7


@pytest.mark.parametrize("purpose", list(Purpose))
def test_an_exchange_that_broke(purpose: Purpose) -> None:
    before = error_without_response(TransportError("reset", sent=False), purpose, "private-7")
    assert type(before) is StoreUnavailable
    after = error_without_response(TransportError("reset", sent=True), purpose, "private-7")
    expected = OutcomeUnknown if purpose in (Purpose.WRITE, Purpose.COMMIT) else StoreUnavailable
    assert type(after) is expected


@pytest.mark.parametrize(
    ("content_range", "filled", "kind"),
    [
        ("bytes 10-19/100", True, None),
        ("bytes 10-19/100", False, "ShortBody"),
        ("bytes 11-20/100", True, "ShortBody"),
        ("bytes 10-18/100", True, "ShortBody"),
        ("bytes 10-19/15", True, "SourceChanged"),
        ("bytes 10-19/*", True, "ShortBody"),
        ("", True, "ShortBody"),
    ],
)
def test_only_the_range_that_was_asked_for(
    content_range: str, filled: bool, kind: str | None
) -> None:
    response = Response(status=206, headers={"content-range": content_range}, filled=filled)
    if kind is None:
        assert check_range(response, offset=10, size=10, key="name") == 100
    else:
        with pytest.raises(NoriaError) as caught:
            check_range(response, offset=10, size=10, key="name")
        assert type(caught.value).__name__ == kind


def test_a_clock_that_is_off() -> None:
    response = Response(status=200, headers={"date": "Mon, 23 Nov 2026 21:00:00 GMT"})
    now = 1795467600.0
    for offset in (-59, 0, 59):
        check_clock(response, now + offset)
    for offset in (-61, 61, 20_000):
        with pytest.raises(ClockSkewed):
            check_clock(response, now + offset)
    check_clock(Response(status=200, headers={}), now)
