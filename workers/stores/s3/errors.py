"""The error for each refusal of an S3 store.

The codes are those of "Error responses" in the Amazon S3 API Reference, and those that MinIO, Ceph,
SeaweedFS and rclone use instead.
"""

from __future__ import annotations

import re
from typing import Final

from noria.manifests.errors import (
    AccessDenied,
    ClockSkewed,
    ConfigurationError,
    ContainerMissing,
    DigestRefused,
    NoriaError,
    SourceUnreadable,
    StoreUnavailable,
    TargetRefused,
    Throttled,
    UploadLost,
)
from noria.workers.http.response import Response
from noria.workers.stores.responses import Purpose, by_status, retry_after_seconds
from noria.workers.stores.s3.xml import error_code

_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")

_BY_CODE: Final[dict[str, tuple[type[NoriaError], str]]] = {
    **dict.fromkeys(
        ("AccessDenied", "AccountProblem", "AllAccessDisabled", "NotSignedUp"),
        (AccessDenied, "grant the rights that RIGHTS.md lists, on this bucket"),
    ),
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch"),
        (AccessDenied, "check the access key, its secret and the region"),
    ),
    **dict.fromkeys(
        ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        (AccessDenied, "renew the session token"),
    ),
    "RequestTimeTooSkewed": (ClockSkewed, "set this machine's clock (NTP)"),
    **dict.fromkeys(
        (
            "BadDigest",
            "IncompleteBody",
            "InvalidDigest",
            "MalformedTrailerError",
            "XAmzContentChecksumMismatch",
        ),
        (DigestRefused, "read the source again and send again"),
    ),
    **dict.fromkeys(
        ("NoSuchUpload", "InvalidPart", "InvalidPartOrder"),
        (UploadLost, "start another upload"),
    ),
    "NoSuchBucket": (ContainerMissing, "there is no such bucket: make it, or correct its name"),
    "InvalidBucketName": (ConfigurationError, "no bucket can have that name: correct it"),
    **dict.fromkeys(
        (
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "InvalidLocationConstraint",
            "PermanentRedirect",
        ),
        (ConfigurationError, "set the bucket's own region and endpoint"),
    ),
    **dict.fromkeys(
        ("InvalidPathAccess", "PathStyleDomainForbidden", "SecondLevelDomainForbidden"),
        (ConfigurationError, "set path_style = false: the bucket belongs before the host's name"),
    ),
    **dict.fromkeys(
        ("OperationAborted", "ConditionalRequestConflict"),
        (StoreUnavailable, "another write was under way: try again"),
    ),
    "EntityTooSmall": (
        ConfigurationError,
        "a part is below the store's minimum: plan larger parts",
    ),
    "InvalidObjectState": (
        SourceUnreadable,
        "restore the object from its archive tier, then plan again",
    ),
    **dict.fromkeys(
        (
            "EntityTooLarge",
            "InvalidTag",
            "KeyTooLongError",
            "MetadataTooLarge",
            "XMinioInvalidObjectName",
        ),
        (TargetRefused, "map its name, or drop the attributes that are too large; then plan again"),
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "RequestTimeout"),
        (StoreUnavailable, "try again"),
    ),
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "RequestLimitExceeded",
            "ServiceUnavailable",
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
        ),
        (Throttled, "slow down"),
    ),
}


def refusal(response: Response, purpose: Purpose, key: str | None) -> NoriaError:
    """Return the error for a response that is not a success. An unknown status is permanent."""
    code = error_code(response.body)
    kind, advice = _BY_CODE.get(code) or by_status(response.status, purpose)
    if (code, purpose) == ("ConditionalRequestConflict", Purpose.COMMIT):
        kind, advice = UploadLost, "another write was under way: start another upload"
    elif _redirects_for_a_while(response, code):
        kind = StoreUnavailable
        advice = "it redirects for a while: try again; if that lasts, correct region and endpoint"
    elif (response.status, purpose) == (501, Purpose.PART):
        kind, advice = UploadLost, "the store cannot replace a part: start another upload"
    region = response.headers.get("x-amz-bucket-region", "")
    if kind is ConfigurationError and _REGION.fullmatch(region):
        advice = f"{advice} (the region is {region})"
    answer = " ".join(filter(None, (str(response.status), code)))
    request_id = response.headers.get("x-amz-request-id", "none")
    message = f"the store answered a {purpose.value} with {answer}: {advice} (request {request_id})"
    if kind is Throttled:
        return Throttled(
            message, key=key, retry_after_seconds=retry_after_seconds(response.headers)
        )
    return kind(message, key=key)


def _redirects_for_a_while(response: Response, code: str) -> bool:
    """Return True for the redirect that Amazon sends until a new bucket is known everywhere.

    The answer to a HEAD has no code. Any other redirect is to somewhere else, for good.
    """
    region = response.headers.get("x-amz-bucket-region")
    return response.status == 307 and (code == "TemporaryRedirect" or region is not None)
