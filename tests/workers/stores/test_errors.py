"""Which error a status and a code become, for what no server at hand can be made to say."""

from __future__ import annotations

import pytest

from noria.manifests.errors import (
    AccessDenied,
    ClockSkewed,
    ConfigurationError,
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
from noria.workers.http.client import BrokenExchange
from noria.workers.http.response import Answer
from noria.workers.stores.azure import errors as azure_refusals
from noria.workers.stores.responses import Verb, check_clock, check_range, from_broken
from noria.workers.stores.s3 import errors as s3_refusals

S3 = [
    (503, "SlowDown", Verb.PART, Throttled),
    (429, "TooManyRequests", Verb.WRITE, Throttled),
    (429, "", Verb.READ, Throttled),
    (503, "", Verb.COMMIT, Throttled),
    (500, "InternalError", Verb.READ, StoreUnavailable),
    (500, "InternalError", Verb.PART, StoreUnavailable),
    (500, "InternalError", Verb.WRITE, OutcomeUnknown),
    (500, "InternalError", Verb.COMMIT, OutcomeUnknown),
    (502, "", Verb.COMMIT, OutcomeUnknown),
    (200, "InternalError", Verb.COMMIT, OutcomeUnknown),
    (200, "BadDigest", Verb.COMMIT, DigestRefused),
    (200, "NoSuchUpload", Verb.COMMIT, UploadLost),
    (200, "", Verb.COMMIT, OutcomeUnknown),
    (200, "", Verb.WRITE, OutcomeUnknown),
    (200, "", Verb.PART, StoreUnavailable),
    (404, "NoSuchUpload", Verb.PART, UploadLost),
    (400, "InvalidPart", Verb.COMMIT, UploadLost),
    (400, "InvalidPartOrder", Verb.COMMIT, UploadLost),
    (400, "EntityTooSmall", Verb.COMMIT, ConfigurationError),
    (400, "RequestTimeout", Verb.PART, StoreUnavailable),
    (400, "IncompleteBody", Verb.PART, DigestRefused),
    (400, "BadDigest", Verb.PART, DigestRefused),
    (400, "InvalidDigest", Verb.WRITE, DigestRefused),
    (403, "RequestTimeTooSkewed", Verb.READ, ClockSkewed),
    (403, "SignatureDoesNotMatch", Verb.READ, AccessDenied),
    (400, "ExpiredToken", Verb.PART, AccessDenied),
    (403, "", Verb.READ, AccessDenied),
    (403, "InvalidObjectState", Verb.READ, SourceUnreadable),
    (400, "InvalidRequest", Verb.READ, SourceUnreadable),
    (412, "PreconditionFailed", Verb.WRITE, TargetConflict),
    (412, "PreconditionFailed", Verb.COMMIT, TargetConflict),
    (412, "PreconditionFailed", Verb.READ, SourceChanged),
    (409, "ConditionalRequestConflict", Verb.COMMIT, UploadLost),
    (409, "ConditionalRequestConflict", Verb.WRITE, StoreUnavailable),
    (409, "OperationAborted", Verb.PART, StoreUnavailable),
    (416, "InvalidRange", Verb.READ, SourceChanged),
    (404, "NoSuchKey", Verb.READ, SourceMissing),
    (404, "", Verb.READ, SourceMissing),
    (404, "NoSuchBucket", Verb.READ, ConfigurationError),
    (404, "NoSuchBucket", Verb.WRITE, ConfigurationError),
    (301, "PermanentRedirect", Verb.READ, ConfigurationError),
    (307, "", Verb.PART, ConfigurationError),
    (400, "KeyTooLongError", Verb.WRITE, TargetRefused),
    (400, "MetadataTooLarge", Verb.OPEN, TargetRefused),
    (400, "InvalidArgument", Verb.PART, TargetRefused),
    (501, "NotImplemented", Verb.PART, UploadLost),
    (501, "NotImplemented", Verb.WRITE, TargetRefused),
    (507, "", Verb.WRITE, StoreUnavailable),
    (418, "Teapot", Verb.CONTROL, ConfigurationError),
]

AZURE = [
    (503, "ServerBusy", Verb.READ, Throttled),
    (429, "", Verb.READ, Throttled),
    (500, "OperationTimedOut", Verb.READ, StoreUnavailable),
    (500, "OperationTimedOut", Verb.WRITE, OutcomeUnknown),
    (500, "InternalError", Verb.COMMIT, OutcomeUnknown),
    (412, "ConditionNotMet", Verb.READ, SourceChanged),
    (412, "ConditionNotMet", Verb.COMMIT, TargetConflict),
    (409, "BlobAlreadyExists", Verb.WRITE, TargetConflict),
    (403, "UnauthorizedBlobOverwrite", Verb.WRITE, TargetConflict),
    (409, "BlobArchived", Verb.READ, SourceUnreadable),
    (409, "BlobBeingRehydrated", Verb.READ, SourceUnreadable),
    (409, "BlobUsesCustomerSpecifiedEncryption", Verb.READ, SourceUnreadable),
    (404, "BlobNotFound", Verb.READ, SourceMissing),
    (404, "ContainerNotFound", Verb.READ, ConfigurationError),
    (403, "AuthenticationFailed", Verb.READ, AccessDenied),
    (401, "InvalidAuthenticationInfo", Verb.READ, AccessDenied),
    (403, "AuthorizationPermissionMismatch", Verb.READ, AccessDenied),
    (403, "KeyBasedAuthenticationNotPermitted", Verb.READ, AccessDenied),
    (400, "Md5Mismatch", Verb.PART, DigestRefused),
    (400, "Crc64Mismatch", Verb.WRITE, DigestRefused),
    (400, "InvalidBlockList", Verb.COMMIT, UploadLost),
    (400, "InvalidBlobOrBlock", Verb.PART, TargetRefused),
    (412, "LeaseIdMissing", Verb.WRITE, TargetRefused),
    (409, "BlobImmutableDueToPolicy", Verb.WRITE, TargetRefused),
    (400, "InvalidMetadata", Verb.COMMIT, TargetRefused),
    (413, "RequestBodyTooLarge", Verb.WRITE, TargetRefused),
    (416, "InvalidRange", Verb.READ, SourceChanged),
    (400, "InvalidUri", Verb.READ, SourceUnreadable),
]


@pytest.mark.parametrize(("status", "code", "verb", "kind"), S3)
def test_s3(status: int, code: str, verb: Verb, kind: type[NoriaError]) -> None:
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    headers = {"retry-after": "7", "x-amz-request-id": "R1"}
    error = s3_refusals.refusal(
        Answer(status=status, headers=headers, body=body), verb, "private-7"
    )
    _check(error, kind, code)


@pytest.mark.parametrize(("status", "code", "verb", "kind"), AZURE)
def test_azure(status: int, code: str, verb: Verb, kind: type[NoriaError]) -> None:
    headers = {"retry-after": "7", "x-ms-request-id": "R1", "x-ms-error-code": code}
    error = azure_refusals.refusal(Answer(status=status, headers=headers), verb, "private-7")
    _check(error, kind, code)


def _check(error: NoriaError, kind: type[NoriaError], code: str) -> None:
    assert type(error) is kind
    assert error.key == "private-7"
    assert code in error.message
    assert "R1" in error.message
    assert "private-7" not in error.message
    if isinstance(error, Throttled):
        assert error.retry_after_seconds == 7


@pytest.mark.parametrize("verb", list(Verb))
def test_an_exchange_that_broke(verb: Verb) -> None:
    before = from_broken(BrokenExchange("reset", sent=False), verb, "private-7")
    assert type(before) is StoreUnavailable
    after = from_broken(BrokenExchange("reset", sent=True), verb, "private-7")
    expected = OutcomeUnknown if verb in (Verb.WRITE, Verb.COMMIT) else StoreUnavailable
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
    answer = Answer(status=206, headers={"content-range": content_range}, filled=filled)
    if kind is None:
        assert check_range(answer, offset=10, size=10, key="name") == 100
    else:
        with pytest.raises(NoriaError) as caught:
            check_range(answer, offset=10, size=10, key="name")
        assert type(caught.value).__name__ == kind


def test_a_clock_that_is_off() -> None:
    answer = Answer(status=200, headers={"date": "Mon, 23 Nov 2026 21:00:00 GMT"})
    now = 1795467600.0
    for offset in (-59, 0, 59):
        check_clock(answer, now + offset)
    for offset in (-61, 61, 20_000):
        with pytest.raises(ClockSkewed):
            check_clock(answer, now + offset)
    check_clock(Answer(status=200, headers={}), now)
