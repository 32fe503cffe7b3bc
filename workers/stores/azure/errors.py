"""The error for each refusal of Azure Blob Storage.

The codes are those of "Status and error codes" and "Blob service error codes" in the Azure Storage
REST API reference.
"""

from __future__ import annotations

from typing import Final

from noria.manifests.errors import (
    AccessDenied,
    ConfigurationError,
    ContainerMissing,
    DigestRefused,
    NoriaError,
    SourceUnreadable,
    StoreUnavailable,
    TargetConflict,
    TargetRefused,
    Throttled,
    UploadLost,
)
from noria.workers.http.response import Response
from noria.workers.stores.responses import Purpose, by_status, retry_after_seconds

RENEWABLE: Final = ("AuthenticationFailed", "InvalidAuthenticationInfo")
"""Codes of a credential that may only have expired."""
_OF_MESSAGES: Final = (b"x-ms-structured-body", b"x-ms-version", b"API version")
"""Named in a refusal of a structured message: by Azure a header, by Azurite the version."""
_RIGHTS: Final = "grant Storage Blob Data Reader on a source, Contributor on a target"
_BY_CODE: Final[dict[str, tuple[type[NoriaError], str]]] = {
    **dict.fromkeys(
        (*RENEWABLE, "NoAuthenticationInformation"),
        (AccessDenied, "renew the credential, and check this machine's clock"),
    ),
    **dict.fromkeys(
        (
            "AuthorizationFailure",
            "AuthorizationPermissionMismatch",
            "AuthorizationResourceTypeMismatch",
            "InsufficientAccountPermissions",
        ),
        (AccessDenied, _RIGHTS),
    ),
    "KeyBasedAuthenticationNotPermitted": (
        AccessDenied,
        "the account does not accept keys: remove the connection string and use an identity",
    ),
    "ContainerNotFound": (
        ContainerMissing,
        "check the names of the account and the container",
    ),
    "ContainerBeingDeleted": (
        ConfigurationError,
        "the container is being deleted, which takes half a minute or more: try again then",
    ),
    **dict.fromkeys(
        ("ContainerDisabled", "AccountBeingCreated"),
        (ConfigurationError, "check the names of the account and the container"),
    ),
    **dict.fromkeys(
        ("BlobArchived", "BlobBeingRehydrated"),
        (SourceUnreadable, "rehydrate the blob, then plan again"),
    ),
    "BlobUsesCustomerSpecifiedEncryption": (
        SourceUnreadable,
        "the blob is encrypted with a customer's key: copy it to a blob without one",
    ),
    **dict.fromkeys(
        ("Md5Mismatch", "InvalidMd5", "Crc64Mismatch", "InvalidCrc64"),
        (DigestRefused, "read the source again and send again"),
    ),
    "InvalidBlockList": (UploadLost, "start another upload"),
    **dict.fromkeys(
        ("BlobAlreadyExists", "InvalidBlobType", "UnauthorizedBlobOverwrite"),
        (TargetConflict, "a blob exists there already"),
    ),
    **dict.fromkeys(
        ("InvalidBlobOrBlock", "InvalidBlockId"),
        (
            TargetRefused,
            "another program has uploaded blocks there: write that blob once, or wait a week",
        ),
    ),
    **dict.fromkeys(
        (
            "BlobImmutableDueToLegalHold",
            "BlobImmutableDueToPolicy",
            "EmptyMetadataKey",
            "InvalidHeaderValue",
            "InvalidMetadata",
            "InvalidTags",
            "LeaseIdMissing",
            "MetadataTooLarge",
            "RequestBodyTooLarge",
        ),
        (TargetRefused, "see the code"),
    ),
    **dict.fromkeys(("ServerBusy", "AccountIopsLimitExceeded"), (Throttled, "slow down")),
    "PendingCopyOperation": (StoreUnavailable, "try again"),
}


def error_code(response: Response) -> str:
    """Return Azure's code of a refusal, or an empty string."""
    return response.headers.get("x-ms-error-code", "")


def refuses_message(response: Response) -> bool:
    """Return True if an endpoint refuses a structured message because it is too old for them."""
    return response.status == 400 and any(name in response.body for name in _OF_MESSAGES)


def refusal(response: Response, purpose: Purpose, key: str | None) -> NoriaError:
    """Return the error for a response that is not a success. An unknown status is permanent."""
    code = error_code(response)
    kind, advice = _BY_CODE.get(code) or by_status(response.status, purpose)
    answer = " ".join(filter(None, (str(response.status), code)))
    request_id = response.headers.get("x-ms-request-id", "none")
    message = f"Azure answered a {purpose.value} with {answer}: {advice} (request {request_id})"
    if kind is Throttled:
        return Throttled(
            message, key=key, retry_after_seconds=retry_after_seconds(response.headers)
        )
    return kind(message, key=key)
