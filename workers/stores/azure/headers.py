"""Write and read a blob's headers. Pure functions."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from typing import Final
from urllib.parse import quote

from noria.manifests.errors import TargetRefused
from noria.manifests.model import Attributes
from noria.workers.http.response import as_written
from noria.workers.stores.metadata import (
    is_identifier,
    require_ascii,
    split_provenance,
    with_provenance,
)
from noria.workers.stores.protocol import ObjectHead
from noria.workers.stores.responses import malformed_is_unavailable, modified_seconds, plain_etag

CRC64_HEADER: Final = "x-ms-content-crc64"
_META: Final = "x-ms-meta-"
_HOLD: Final = "x-ms-legal-hold"
_POLICY: Final = "x-ms-immutability-policy-"
_POLICY_MODES: Final = {"governance": "unlocked", "compliance": "locked"}
"""The words of Attributes -> Azure's own."""


def attribute_headers(attributes: Attributes, txid: str, *, key: str) -> dict[str, str]:
    """Return the headers that store attributes, tags and Noria's own metadata with a blob.

    Raises TargetRefused if Azure cannot take them: metadata must be ASCII, and its names C#
    identifiers.
    """
    headers: dict[str, str] = {}
    for header, value in (
        ("x-ms-blob-content-type", attributes.content_type),
        ("x-ms-blob-content-encoding", attributes.content_encoding),
        ("x-ms-blob-content-language", attributes.content_language),
        ("x-ms-blob-content-disposition", attributes.content_disposition),
        ("x-ms-blob-cache-control", attributes.cache_control),
    ):
        if value is not None:
            headers[header] = require_ascii(header, value, key=key)
    for name, value in with_provenance(attributes, txid, key=key).items():
        if not is_identifier(name):
            raise TargetRefused(
                "a metadata name is not a C# identifier, as Azure requires: rename it", key=key
            )
        headers[_META + name] = require_ascii("metadata", value, key=key)
    if attributes.retain_mode is not None and attributes.retain_until is not None:
        headers[_POLICY + "mode"] = _POLICY_MODES[attributes.retain_mode]
        headers[_POLICY + "until-date"] = formatdate(attributes.retain_until, usegmt=True)
    if attributes.legal_hold:
        headers[_HOLD] = "true"
    if attributes.tags:
        headers["x-ms-tags"] = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}"
            for name, value in attributes.tags.items()
        )
    return headers


@malformed_is_unavailable("a blob's headers")
def whole_head(headers: Mapping[str, str]) -> ObjectHead:
    """Return the head of a blob from the response to a HEAD or a GET without Range."""
    return blob_head(
        headers,
        size=int(headers.get("content-length", "0")),
        crc64nvme=decode_crc(headers.get(CRC64_HEADER)),
    )


def read_head(headers: Mapping[str, str], *, size: int, crc64nvme: int | None) -> ObjectHead:
    """Return the head of a blob after a GET without Range of `size` bytes.

    `crc64nvme` is the one stated with the bytes. The header's, if there is one, goes before it.
    """
    stated = decode_crc(headers.get(CRC64_HEADER))
    return blob_head(headers, size=size, crc64nvme=crc64nvme if stated is None else stated)


@malformed_is_unavailable("a blob's headers")
def blob_head(headers: Mapping[str, str], *, size: int, crc64nvme: int | None) -> ObjectHead:
    # Names of metadata have a case here, and Azure keeps it.
    stored = {
        as_written(headers, name)[len(_META) :]: value
        for name, value in headers.items()
        if name.startswith(_META)
    }
    metadata, txid, modified = split_provenance(stored)
    return ObjectHead(
        size=size,
        etag=plain_etag(headers.get("etag", "")),
        version_id=headers.get("x-ms-version-id"),
        crc64nvme=crc64nvme,
        txid=txid,
        # Stated only if there are tags and the caller may read them.
        tag_count=int(headers["x-ms-tag-count"]) if "x-ms-tag-count" in headers else None,
        attributes=Attributes(
            content_type=headers.get("content-type"),
            content_encoding=headers.get("content-encoding"),
            content_language=headers.get("content-language"),
            content_disposition=headers.get("content-disposition"),
            cache_control=headers.get("cache-control"),
            metadata=metadata,
            modified_seconds=modified_seconds(headers) if modified is None else modified,
            storage_class=_own_tier(headers),
            blob_type=_special_type(headers),
            retain_mode=_retain_mode(headers.get(_POLICY + "mode")),
            retain_until=_retain_until(headers.get(_POLICY + "until-date")),
            legal_hold=headers.get(_HOLD) == "true",
            content_md5=headers.get("x-ms-blob-content-md5") or headers.get("content-md5"),
        ),
    )


def _special_type(headers: Mapping[str, str]) -> str | None:
    """Return the type of a blob that is not the one that Noria writes."""
    kind = headers.get("x-ms-blob-type")
    return None if kind == "BlockBlob" else kind


def _own_tier(headers: Mapping[str, str]) -> str | None:
    """Return the tier that was set for this blob; None if it has the account's default."""
    inferred = headers.get("x-ms-access-tier-inferred", "").lower() == "true"
    return None if inferred else headers.get("x-ms-access-tier")


def _retain_mode(stated: str | None) -> str | None:
    return next(
        (mode for mode, name in _POLICY_MODES.items() if name == (stated or "").lower()), None
    )


def _retain_until(date: str | None) -> float | None:
    return None if date is None else parsedate_to_datetime(date).timestamp()


def encode_crc(crc64nvme: int) -> str:
    """Return the checksum as Azure writes it: base64 of 8 bytes, little endian."""
    return base64.b64encode(crc64nvme.to_bytes(8, "little")).decode()


@malformed_is_unavailable("a CRC64")
def decode_crc(text: str | None) -> int | None:
    return int.from_bytes(base64.b64decode(text), "little") if text else None
