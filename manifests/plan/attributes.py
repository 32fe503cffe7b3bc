"""The table of what an object has besides its bytes, and what becomes of it at each target.

ATTRIBUTES.md shows it, workers/carriage.py does what it says, and a test holds the three together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from noria.manifests.model import AttributeChange, Reason

AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeFate:
    """One attribute, and what becomes of it."""

    attribute: str
    to_s3: str = AS_IT_IS
    to_azure: str = AS_IT_IS
    to_files: str = "kept in the extended attribute `user.noria`"
    settings: str = ""
    """Of a job file, by which it may be changed."""
    counted: tuple[AttributeChange | Reason, ...] = ()
    """How receipts and reports call what does not arrive as it was."""


_NOT_READ = "not carried"

ATTRIBUTES = (
    AttributeFate(
        attribute="Content-Type, Content-Encoding, Content-Language, Cache-Control",
        to_azure="as it is; beyond ASCII: cannot be",
        settings="run.unfit_headers",
        counted=(AttributeChange.HEADER_LEFT,),
    ),
    AttributeFate(
        attribute="Content-Disposition",
        to_s3="as it is, beyond ASCII too",
        to_azure="as it is; a file name beyond ASCII: in the form of RFC 8187 (map)",
        settings="run.unfit_headers",
        counted=(AttributeChange.HEADER_MAPPED, AttributeChange.HEADER_LEFT),
    ),
    AttributeFate(
        attribute="Names of metadata",
        to_s3="in lower case; two that differ in case alone: cannot be",
        to_azure=(
            "as it is, in its case; no C# identifier (`my-name`): renamed as AzCopy does (map)"
        ),
        settings="run.unfit_metadata",
        counted=(
            AttributeChange.METADATA_LOWERED,
            AttributeChange.METADATA_MAPPED,
            AttributeChange.METADATA_LEFT,
        ),
    ),
    AttributeFate(
        attribute="Values of metadata",
        to_s3="as it is, beyond ASCII as encoded words (RFC 2047); control characters: cannot be",
        to_azure="as it is; beyond ASCII: as encoded words (map)",
        settings="run.unfit_metadata",
        counted=(AttributeChange.METADATA_MAPPED, AttributeChange.METADATA_LEFT),
    ),
    AttributeFate(
        attribute="Tags",
        to_s3="as it is, up to 10",
        to_azure="as it is, up to 10, of the characters that Azure allows",
        settings="run.unfit_tags",
        counted=(
            AttributeChange.TAGS_LEFT,
            AttributeChange.TAGS_REFUSED,
            AttributeChange.TAGS_UNREADABLE,
        ),
    ),
    AttributeFate(
        attribute="Last-Modified",
        to_s3="as the metadata `mtime`",
        to_azure="as the metadata `mtime`",
        to_files="as the time of modification",
    ),
    AttributeFate(
        attribute="Expires",
        to_azure="cannot be",
        settings="run.unfit_others",
        counted=(AttributeChange.EXPIRES_LEFT,),
    ),
    AttributeFate(
        attribute="Website redirect",
        to_azure="cannot be",
        settings="run.unfit_others",
        counted=(AttributeChange.REDIRECT_LEFT,),
    ),
    AttributeFate(
        attribute="Storage class, tier",
        to_s3="the bucket's default, or as set; of S3: each object's own, if set",
        to_azure="the account's default, or as set; of Azure: each blob's own, if set",
        settings="target.storage_class or run.unfit_others",
        counted=(AttributeChange.CLASS_LEFT, Reason.ARCHIVED),
    ),
    AttributeFate(
        attribute="Type of a page blob or an append blob",
        to_s3="an object like any other",
        to_azure="a block blob",
        settings="run.unfit_others",
        counted=(AttributeChange.BLOB_TYPE_LEFT,),
    ),
    AttributeFate(
        attribute="Encryption with keys of a key service",
        to_s3="as the bucket is set up, or as set",
        to_azure="as the account is set up",
        settings="target.encryption or target.kms_key_id or run.unfit_others",
        counted=(AttributeChange.ENCRYPTION_LEFT,),
    ),
    AttributeFate(
        attribute="Encryption with a key that the client sends",
        to_s3="the object is refused",
        to_azure="the object is refused",
        to_files="the object is refused",
        counted=(Reason.CUSTOMER_KEY,),
    ),
    AttributeFate(
        attribute="Content-MD5 of a blob",
        to_s3="not carried: S3 has checksums of its own; checked where an object is read at once",
        to_azure="as it is; of a blob of one request: computed by Azure",
        settings="run.source_md5",
    ),
    AttributeFate(
        attribute="Access lists",
        to_s3="not carried; one may be set for all",
        to_azure=_NOT_READ,
        to_files=_NOT_READ,
        settings="target.acl",
    ),
    AttributeFate(
        attribute="Retention that has not ended, legal hold",
        to_s3="none, or as at the source, if set; unlocked is GOVERNANCE, locked is COMPLIANCE",
        to_azure="none, or as at the source, if set; GOVERNANCE is unlocked, COMPLIANCE is locked",
        settings="target.retention or run.unfit_others",
        counted=(AttributeChange.RETENTION_LEFT,),
    ),
    AttributeFate(
        attribute="Versions, snapshots",
        to_s3=_NOT_READ,
        to_azure=_NOT_READ,
        to_files=_NOT_READ,
        counted=(Reason.NOT_CURRENT,),
    ),
    AttributeFate(
        attribute="Mode, owner, other times and extended attributes of a file",
        to_s3=_NOT_READ,
        to_azure=_NOT_READ,
        to_files=_NOT_READ,
    ),
    AttributeFate(
        attribute="Symbolic links; sockets, pipes, devices",
        to_s3="passed over; links: refused or followed, if set",
        to_azure="passed over; links: refused or followed, if set",
        to_files="passed over; links: refused or followed, if set",
        settings="source.links",
        counted=(Reason.LINK, Reason.SPECIAL_FILE),
    ),
)


def attribute_lines() -> Iterator[str]:
    """Yield the table as lines of Markdown."""
    yield "| | to S3 | to Azure | to a folder | settings | counted as |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for fate in ATTRIBUTES:
        counted = ", ".join(f"`{cause}`" for cause in fate.counted)
        settings = ", ".join(f"`{name}`" for name in fate.settings.split(" or ") if name)
        cells = (fate.attribute, fate.to_s3, fate.to_azure, fate.to_files, settings, counted)
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")
