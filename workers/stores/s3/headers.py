"""Write and read an S3 object's headers. Pure functions."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from noria.manifests.errors import ConfigurationError
from noria.manifests.model import Attributes
from noria.workers.stores.metadata import (
    decode_words,
    encode_words,
    require_text,
    require_token,
    split_provenance,
    with_provenance,
)
from noria.workers.stores.protocol import ObjectHead
from noria.workers.stores.responses import malformed_is_unavailable, modified_seconds, plain_etag

CRC64NVME_HEADER: Final = "x-amz-checksum-crc64nvme"
CHECKSUM_TYPE_HEADER: Final = "x-amz-checksum-type"
STATE_CRC: Final = {"x-amz-checksum-mode": "ENABLED"}
"""Requests the stored checksum. Only for whole objects: with a range, it may be that of a part."""

ANNOUNCING: Final = ("ceph", "minio", "seaweedfs")
"""Servers that state the number of tags: in rgw_rest_s3.cc, object-handlers.go, and as measured."""
_META: Final = "x-amz-meta-"
_LOCK: Final = "x-amz-object-lock-"


def attribute_headers(attributes: Attributes, txid: str, *, key: str) -> dict[str, str]:
    """Return the headers that store attributes, tags and Noria's own metadata with an object.

    Raises TargetRefused if a header cannot carry them.
    """
    headers: dict[str, str] = {}
    for header, value in _system_headers(attributes).items():
        headers[header] = require_text(header, value, key=key)
    for name, value in with_provenance(attributes, txid, key=key).items():
        headers[_META + require_token(name, key=key).lower()] = encode_words(value, key=key)
    if attributes.retain_mode is not None and attributes.retain_until is not None:
        headers[_LOCK + "mode"] = attributes.retain_mode.upper()
        until = datetime.fromtimestamp(attributes.retain_until, UTC)
        headers[_LOCK + "retain-until-date"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    if attributes.legal_hold:
        headers[_LOCK + "legal-hold"] = "ON"
    if attributes.tags:
        headers["x-amz-tagging"] = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}"
            for name, value in attributes.tags.items()
        )
    return headers


@malformed_is_unavailable("an object's headers")
def whole_head(headers: Mapping[str, str]) -> ObjectHead:
    """Return the head of an object from a HEAD or a GET without Range, sent with STATE_CRC."""
    size = int(headers.get("content-length", "0"))
    return object_head(headers, size=size, crc64nvme=stated_crc(headers))


@malformed_is_unavailable("an object's headers")
def object_head(headers: Mapping[str, str], *, size: int, crc64nvme: int | None) -> ObjectHead:
    stored = {
        name.removeprefix(_META): decode_words(value)
        for name, value in headers.items()
        if name.startswith(_META)
    }
    metadata, txid, modified = split_provenance(stored)
    return ObjectHead(
        size=size,
        etag=plain_etag(headers.get("etag", "")),
        version_id=headers.get("x-amz-version-id"),
        crc64nvme=crc64nvme,
        txid=txid,
        tag_count=_tag_count(headers),
        announces_tags=provider_of_answer(headers) in ANNOUNCING,
        attributes=Attributes(
            content_type=headers.get("content-type"),
            content_encoding=headers.get("content-encoding"),
            content_language=headers.get("content-language"),
            content_disposition=headers.get("content-disposition"),
            cache_control=headers.get("cache-control"),
            metadata=metadata,
            modified_seconds=modified_seconds(headers) if modified is None else modified,
            expires=headers.get("expires"),
            website_redirect=headers.get("x-amz-website-redirect-location"),
            storage_class=_unless(headers.get("x-amz-storage-class"), "STANDARD"),
            encryption=_unless(headers.get("x-amz-server-side-encryption"), "AES256"),
            retain_mode=headers[_LOCK + "mode"].lower() if _LOCK + "mode" in headers else None,
            retain_until=_retain_until(headers.get(_LOCK + "retain-until-date")),
            legal_hold=headers.get(_LOCK + "legal-hold") == "ON",
        ),
    )


def _tag_count(headers: Mapping[str, str]) -> int | None:
    """Return the number of tags; None if it is not stated.

    Amazon states it only if there are tags and the caller may read them, and some servers never do.
    """
    stated = headers.get("x-amz-tagging-count")
    if stated is not None:
        return int(stated)
    return 0 if provider_of_answer(headers) == "rclone" else None


def _retain_until(date: str | None) -> float | None:
    return None if date is None else datetime.fromisoformat(date).timestamp()


def _unless(value: str | None, usual: str) -> str | None:
    return None if value == usual else value


def stated_crc(headers: Mapping[str, str]) -> int | None:
    return full_object_crc(headers.get(CRC64NVME_HEADER), headers.get(CHECKSUM_TYPE_HEADER))


@malformed_is_unavailable("a CRC64NVME")
def full_object_crc(text: str | None, kind: str | None) -> int | None:
    """Return a stated CRC64NVME; None if it is a composite.

    A composite is a checksum over the parts' checksums; it ends in -N.
    """
    if not text or "-" in text or kind == "COMPOSITE":
        return None
    return int.from_bytes(base64.b64decode(text), "big")


def encode_crc(crc64nvme: int) -> str:
    """Return the checksum as S3 writes it: base64 of 8 bytes, big endian."""
    return base64.b64encode(crc64nvme.to_bytes(8, "big")).decode()


def provider_of_answer(headers: Mapping[str, str]) -> str | None:
    """Return the name in manifests.plan.providers that a response gives away, else None.

    Many servers claim to be AmazonS3, so that name proves nothing.
    """
    server = headers.get("server", "").lower()
    for name in ("seaweedfs", "minio", "ceph"):
        if server.startswith(name):
            return name
    # gofakes3, which `rclone serve s3` is built on, sends this header with every response.
    if "x-amz-meta-filename" in headers.get("access-control-allow-headers", ""):
        return "rclone"
    return None


def _system_headers(attributes: Attributes) -> dict[str, str]:
    stored = {
        "content-type": attributes.content_type,
        "content-encoding": attributes.content_encoding,
        "content-language": attributes.content_language,
        "content-disposition": attributes.content_disposition,
        "cache-control": attributes.cache_control,
        "expires": attributes.expires,
        "x-amz-website-redirect-location": attributes.website_redirect,
    }
    return {header: value for header, value in stored.items() if value is not None}


def customer_key_headers(key: bytes | None) -> dict[str, str]:
    """Return the headers of SSE-C, by which the store encrypts with our key and forgets it."""
    if key is None:
        return {}
    if len(key) != 32:
        raise ConfigurationError("customer_key must have 32 bytes (AES-256): check the key")
    prefix = "x-amz-server-side-encryption-customer"
    md5 = hashlib.md5(key, usedforsecurity=False).digest()
    return {
        f"{prefix}-algorithm": "AES256",
        f"{prefix}-key": base64.b64encode(key).decode(),
        f"{prefix}-key-md5": base64.b64encode(md5).decode(),
    }
