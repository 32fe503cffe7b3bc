"""What each store can hold: sizes, parts, names.

A fact is here with its source, or as a careful guess. If a document says MB, GB or TB, the decimal
reading is taken for an upper bound and the binary one for a lower bound. What a target really does
to odd names is best found by a probe; known_name_rules() is the answer before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from noria.manifests.errors import ConfigurationError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
GB, TB = 10**9, 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """What a store accepts. Names are whole names in the bucket or container, prefix included."""

    name: str
    max_object_bytes: int
    max_put_bytes: int
    """Largest object that one request may carry."""
    max_parts: int
    min_part_bytes: int
    """Of every part but the last."""
    max_part_bytes: int
    max_key_bytes: int | None = 1024
    """UTF-8 bytes; None if only characters are counted."""
    max_key_characters: int | None = None
    """Unicode characters; None if only bytes are counted."""
    max_segments: int | None = None
    """Pieces of a name between slashes; None: no limit."""
    max_segment_bytes: int | None = None
    """UTF-8 bytes of one such piece; None: no limit of its own."""
    max_metadata_bytes: int = 2 * KIB
    """UTF-8 bytes of the names and values of user metadata together."""
    max_tags: int = 10
    list_page: int = 1000
    """Names in one answer to a listing."""
    max_upload_seconds: int | None = None
    """A request that carries a body must end within this; None: nothing is stated."""
    writes_per_second: int | None = None
    """Per bucket, if a number is published."""
    reads_per_second: int | None = None
    sources: tuple[str, ...] = ()
    """Where the facts come from: title, then address."""


_S3_MULTIPART = "Amazon S3 multipart upload limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"
_S3_KEYS = (
    "Naming Amazon S3 objects (1,024 bytes): "
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"
)
_S3_METADATA = (
    "Working with object metadata (2 KB): "
    "https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html"
)

_LIMITS = (
    ProviderLimits(
        name="aws",
        max_object_bytes=10_000 * 5 * GIB,
        max_put_bytes=5 * GIB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GIB,
        sources=(_S3_MULTIPART, _S3_KEYS, _S3_METADATA),
    ),
    ProviderLimits(
        name="scaleway",
        max_object_bytes=5 * TB,
        max_put_bytes=5 * GB,
        max_parts=1_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GB,
        sources=(
            "Managing multipart uploads (1,000 parts, 5 MB to 5 GB, 5 TB): "
            "https://www.scaleway.com/en/docs/object-storage/api-cli/multipart-uploads/",
            "names, metadata: not documented, taken as on Amazon S3",
        ),
    ),
    ProviderLimits(
        name="ovhcloud",
        max_object_bytes=48 * TB,
        max_put_bytes=5 * GB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GB,
        writes_per_second=300,
        reads_per_second=900,
        sources=(
            "Object Storage - Technical Limitations (sizes, parts, soft request rates per bucket): "
            "https://help.ovhcloud.com/csm/en-public-cloud-storage-s3-limitations",
            "names, metadata: not documented, taken as on Amazon S3",
        ),
    ),
    ProviderLimits(
        name="outscale",
        max_object_bytes=5 * TB,
        max_put_bytes=4 * GIB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=4 * GIB,
        max_upload_seconds=180,
        writes_per_second=200,
        reads_per_second=300,
        sources=(
            "OOS Recommendations and Limits (5 TB, 3 minutes an upload, request rates per bucket): "
            "https://docs.outscale.com/en/userguide/OOS-Recommendations-and-Limits.html",
            "Uploading a Part (10,000 parts of 1 MiB to 4 GiB, all of one size but the last): "
            "https://docs.outscale.com/en/userguide/Uploading-a-Part.html",
            "one PUT: not documented, taken as the largest part",
            "the smallest part: 5 MiB, as on Amazon S3, though 1 MiB is documented",
        ),
    ),
    ProviderLimits(
        name="ceph",
        max_object_bytes=10_000 * 5 * GIB,
        max_put_bytes=5 * GIB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GIB,
        sources=(
            "rgw_max_put_size, rgw_multipart_part_upload_limit, rgw_multipart_min_part_size, "
            "rgw_max_listing_results, by default: "
            "https://github.com/ceph/ceph/blob/main/src/common/options/rgw.yaml.in",
        ),
    ),
    ProviderLimits(
        name="minio",
        max_object_bytes=10_000 * 5 * GIB,
        max_put_bytes=5 * GIB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GIB,
        max_segment_bytes=255,
        sources=(
            "Thresholds and Limits: "
            "https://docs.min.io/community/minio-object-store/operations/concepts/thresholds.html",
            "that page allows 5 TiB in one PUT; 5 GiB here, as on Amazon S3",
        ),
    ),
    ProviderLimits(
        name="seaweedfs",
        max_object_bytes=5 * TIB,
        max_put_bytes=5 * GIB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GIB,
        max_segment_bytes=255,
        sources=("names: measured on SeaweedFS 4.48; sizes: as on Amazon S3",),
    ),
    ProviderLimits(
        name="rclone",
        max_object_bytes=5 * TIB,
        max_put_bytes=5 * GIB,
        max_parts=10_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=5 * GIB,
        max_segment_bytes=255,
        max_metadata_bytes=1_400,
        sources=(
            "rclone serve s3: https://rclone.org/commands/rclone_serve_s3/",
            "names and metadata: measured on rclone 1.75.2 over a local disk, where 2,000 bytes "
            "hold all x-amz-* headers; sizes: as on Amazon S3",
        ),
    ),
    ProviderLimits(
        name="azure",
        max_object_bytes=50_000 * 4_000 * MIB,
        max_put_bytes=5_000 * MIB,
        max_parts=50_000,
        min_part_bytes=1,
        max_part_bytes=4_000 * MIB,
        max_key_bytes=None,
        max_key_characters=1024,
        max_segments=254,
        max_metadata_bytes=8 * KIB,
        list_page=5_000,
        sources=(
            "Scalability and performance targets for Blob storage: "
            "https://learn.microsoft.com/azure/storage/blobs/scalability-targets",
            "Naming and Referencing Containers, Blobs, and Metadata: "
            "https://learn.microsoft.com/rest/api/storageservices/"
            "naming-and-referencing-containers--blobs--and-metadata",
        ),
    ),
    ProviderLimits(
        name="local",
        max_object_bytes=16 * TIB - 1,
        max_put_bytes=16 * TIB - 1,
        max_parts=10_000,
        min_part_bytes=1,
        max_part_bytes=16 * TIB - 1,
        max_key_bytes=3 * KIB,
        max_segment_bytes=255,
        sources=(
            "ext4 with 4 KiB blocks (16 TiB a file): "
            "https://docs.kernel.org/filesystems/ext4/overview.html",
            "path_resolution(7), 4,096 bytes a path (1 KiB of them for the folder in front), 255 a "
            "name: https://man7.org/linux/man-pages/man7/path_resolution.7.html",
            "metadata shares one extended attribute, of 4 KiB on ext4, with tags and headers: "
            "https://man7.org/linux/man-pages/man7/xattr.7.html",
        ),
    ),
    ProviderLimits(
        name="s3",
        max_object_bytes=5 * TB,
        max_put_bytes=5 * GB,
        max_parts=1_000,
        min_part_bytes=5 * MIB,
        max_part_bytes=4 * GIB,
        max_segment_bytes=255,
        sources=("an S3 of which nothing is known: the narrowest limit of those above",),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRules:
    """What a target does to names that are not plain. All False: it stores names unchanged."""

    merges_slashes: bool = False
    """Stores `a//b` as `a/b`."""
    strips_leading_slash: bool = False
    """Stores `/a` as `a`."""
    strips_trailing_slash: bool = False
    """Stores `a/` as `a`."""
    backslash_is_slash: bool = False
    r"""Stores `a\b` as `a/b`."""
    drops_directory_body: bool = False
    """Takes `a/` for a folder: its bytes or its metadata are lost without a word."""
    refuses_empty_segments: bool = False
    """Answers an error to `a//b` and `/a`."""
    refuses_dot_segments: bool = False
    """Answers an error to `.` and `..` between slashes, or resolves them."""
    refuses_trailing_dots: bool = False
    """Refuses or trims a segment that ends with a dot."""
    refuses_control_characters: bool = False
    """Refuses U+0001 to U+001F and U+007F."""
    refuses_nul: bool = False
    """Refuses U+0000."""
    file_and_directory_conflict: bool = False
    """Cannot hold `f` and `f/g` together."""
    reserved_segments: tuple[str, ...] = ()
    """Segments that the target keeps for itself, at any depth, or after a first `/` as the first.

    A last `*` matches any rest.
    """
    max_segment_bytes: int | None = None
    """As ProviderLimits.max_segment_bytes, if a probe found it."""


CAREFUL_RULES = NameRules(
    merges_slashes=True,
    strips_leading_slash=True,
    backslash_is_slash=True,
    drops_directory_body=True,
    refuses_dot_segments=True,
    refuses_control_characters=True,
    refuses_nul=True,
)
"""For a target of which nothing is known: leaves out every name that some store spoils."""

_RULES = {
    # Naming Amazon S3 objects: any UTF-8; `../` only as far as it does not climb above the bucket,
    # which is refused altogether here since clients resolve it too.
    "aws": NameRules(refuses_dot_segments=True, refuses_nul=True),
    # Thresholds and Limits, "Object Name Limitations" and "Conflicting Objects"; the backslash is
    # the careful guess, since it depends on the server's version and system.
    "minio": NameRules(
        backslash_is_slash=True,
        refuses_empty_segments=True,
        refuses_dot_segments=True,
        refuses_nul=True,
        file_and_directory_conflict=True,
    ),
    # Measured on SeaweedFS 4.48: `dir/` answers 200 and keeps neither body nor metadata; `.uploads`
    # is stored and not listed.
    "seaweedfs": NameRules(
        merges_slashes=True,
        strips_leading_slash=True,
        backslash_is_slash=True,
        drops_directory_body=True,
        refuses_dot_segments=True,
        refuses_nul=True,
        reserved_segments=(".uploads",),
    ),
    # Measured on rclone 1.75.2 `serve s3` over a local disk.
    "rclone": NameRules(
        strips_trailing_slash=True,
        refuses_empty_segments=True,
        refuses_dot_segments=True,
        refuses_nul=True,
        file_and_directory_conflict=True,
    ),
    # Naming and Referencing Containers, Blobs, and Metadata; the backslash: rclone's Azure backend,
    # https://rclone.org/azureblob/#restricted-filename-characters
    "azure": NameRules(
        backslash_is_slash=True,
        refuses_dot_segments=True,
        refuses_trailing_dots=True,
        refuses_control_characters=True,
        refuses_nul=True,
    ),
    # A name is a path below a folder; these begin the names of files that are not finished.
    "local": NameRules(
        drops_directory_body=True,
        refuses_empty_segments=True,
        refuses_dot_segments=True,
        refuses_nul=True,
        file_and_directory_conflict=True,
        reserved_segments=("/.noria-draft-*", "/.noria-upload-*"),
    ),
}

_BY_NAME = {limits.name: limits for limits in _LIMITS}

_DOMAINS = {
    "amazonaws.com": "aws",
    "amazonaws.com.cn": "aws",
    "scw.cloud": "scaleway",
    "cloud.ovh.net": "ovhcloud",
    "cloud.ovh.us": "ovhcloud",
    "outscale.com": "outscale",
    "blob.core.windows.net": "azure",
    "blob.core.chinacloudapi.cn": "azure",
    "blob.core.usgovcloudapi.net": "azure",
    "blob.storage.azure.net": "azure",
}
"""Endpoints as the providers publish them.

See https://github.com/rclone/rclone, backend/s3/provider/.
"""

PROVIDERS = tuple(_BY_NAME)


def limits_for(name: str) -> ProviderLimits:
    """The limits of a provider by its name. Raises ConfigurationError for an unknown name."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ConfigurationError(
            f"unknown provider {name!r}; choose one of {', '.join(PROVIDERS)}"
        ) from None


def known_name_rules(name: str) -> NameRules:
    """What is known of a provider's handling of names; CAREFUL_RULES if nothing is.

    Raises ConfigurationError for a name that is not known.
    """
    return _RULES.get(limits_for(name).name, CAREFUL_RULES)


def provider_of_endpoint(url: str) -> str:
    """The provider that an endpoint's host name gives away, else `s3`.

    Self-hosted servers (Ceph, MinIO, SeaweedFS) have no host name of their own: they answer `s3`
    here.
    """
    parts = urlsplit(url if "://" in url else f"//{url}")
    if parts.scheme in ("file", "az"):
        return {"file": "local", "az": "azure"}[parts.scheme]
    host = (parts.hostname or "").rstrip(".")
    for domain, provider in _DOMAINS.items():
        if host == domain or host.endswith(f".{domain}"):
            return provider
    return "s3"
