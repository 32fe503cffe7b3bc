"""Addresses of stores as people copy them, and what a host's name says of its service.

    https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH
    abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH
    https://s3.REGION.amazonaws.com/BUCKET/KEY
    https://BUCKET.s3.REGION.amazonaws.com/KEY
    s3a://BUCKET/KEY, arn:aws:s3:::BUCKET/KEY
    /a/path, ./a/path, ~/a/path, and a/path if it is there

Also of sovereign clouds, .dfs. hosts, abfs, wasb and wasbs, and of more providers of S3.
Each becomes one of the three forms that locations.py knows, with the endpoint and region that it
names. An https URL is percent-decoded, since it is copied encoded. What is not known for sure is
refused: a host that nobody knows may be a store of either kind.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from noria.manifests.errors import ConfigurationError

DEVELOPMENT_ACCOUNT: Final = "devstoreaccount1"
"""The account that every emulator of Azure Storage has."""

_AWS_REGION: Final = r"(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9])"
_PLACE: Final = r"(?P<region>[a-z0-9-]+)"

_S3_HOSTS: Final = tuple(
    re.compile(rf"(?:(?P<bucket>[a-z0-9._-]+)\.)?(?P<host>{host})")
    for host in (
        rf"s3(?:-fips)?(?:\.dualstack)?[.-]{_AWS_REGION}\.amazonaws\.com(?:\.cn)?",
        r"s3\.amazonaws\.com",
        r"s3\.(?P<region>[a-z]{2}-[a-z]{3})\.scw\.cloud",
        rf"s3\.{_PLACE}\.(?:(?:io|perf)\.)?cloud\.ovh\.(?:net|us)",
        rf"oos\.{_PLACE}\.outscale\.com",
        rf"s3\.{_PLACE}\.wasabisys\.com",
        r"s3\.wasabisys\.com",
        rf"s3\.{_PLACE}\.backblazeb2\.com",
        r"(?P<region>[a-z]{3}[0-9])\.digitaloceanspaces\.com",
        r"(?P<region>[a-z]{3}[0-9])\.your-objectstorage\.com",
        r"(?P<region>[a-z]{3}[0-9])\.vultrobjects\.com",
        r"(?P<region>[a-z]{2}-[a-z]+-[0-9])\.linodeobjects\.com",
        r"sos-(?P<region>[a-z]{2}-[a-z]{3}-[0-9])\.exo\.io",
        rf"s3[.-]{_PLACE}\.ionoscloud\.com",
        rf"s3\.(?:private\.|direct\.)?{_PLACE}\.cloud-object-storage\.appdomain\.cloud",
        r"(?:s3\.)?(?P<region>oss-[a-z0-9-]+)\.aliyuncs\.com",
        rf"cos\.{_PLACE}\.myqcloud\.com",
        r"[0-9a-f]{32}(?:\.(?:eu|fedramp))?\.r2\.cloudflarestorage\.com",
        r"storage\.googleapis\.com",
    )
)
"""Hosts of S3 services whose name holds the region, as their providers publish them.

See https://github.com/rclone/rclone, backend/s3/provider/.
"""
_REGIONS: Final = {
    "s3.wasabisys.com": "us-east-1",
    "storage.googleapis.com": "auto",
    "r2.cloudflarestorage.com": "auto",
}
"""Of hosts that do not name theirs."""
_BUCKET_IN_HOST: Final = ("amazonaws.com", "amazonaws.com.cn", "aliyuncs.com", "myqcloud.com")
"""Where the bucket is part of the host's name: some recommend it, some take nothing else."""

_AZURE_HOST: Final = re.compile(
    r"(?P<account>[a-z0-9]{1,24})(?P<place>(?:-secondary)?(?:\.z[0-9]+)?)\.(?:blob|dfs)\."
    r"(?P<cloud>core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net"
    r"|core\.cloudapi\.de|storage\.azure\.net)"
)
_HADOOP: Final = ("abfs", "abfss", "wasb", "wasbs")
_ARN: Final = re.compile(r"arn:aws[a-z-]*:s3:::(?P<rest>[^/:]+(?:/.*)?)", re.DOTALL)
_SIGNED: Final = ("?sig=", "&sig=", "X-Amz-Signature=", "X-Amz-Credential=")
"""What tells a URL that carries its own permission from a name with a question mark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A location in one of the three forms of locations.py, and what else its URL said."""

    url: str
    endpoint: str | None = None
    region: str | None = None


def read_address(text: str) -> Address:
    """Read a URL or path in any form above. Raises ConfigurationError; never repeats a query."""
    if any(mark in text for mark in _SIGNED):
        raise ConfigurationError(
            f"{shown(text)} contains a signature; write the location alone and put a SAS in "
            "AZURE_STORAGE_SAS_TOKEN"
        )
    if text.startswith(("/", "./", "../", "~/")) or text in (".", "..", "~"):
        return Address(url=file_url(os.path.expanduser(text)))
    if is_bare(text) and os.path.lexists(text):
        return Address(url=file_url(text))
    if found := _ARN.fullmatch(text):
        return Address(url=f"s3://{found['rest']}")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if separator and scheme in ("s3a", "s3n"):
        return Address(url=f"s3://{rest}")
    if separator and scheme in _HADOOP:
        return _hadoop(text, rest)
    if separator and scheme in ("http", "https"):
        return _web(text)
    return Address(url=scheme + separator + rest if separator else text)


def is_bare(text: str) -> bool:
    """Whether a text can be nothing but a path: no scheme, and nothing before a colon.

    It counts as one only if something is there: a bucket's name without its scheme is not a folder.
    """
    return bool(text) and ":" not in text and "\0" not in text


def file_url(path: str) -> str:
    """Return the URL of a path, which is taken from the current directory if it is relative."""
    return f"file://{quote(os.path.abspath(path))}"


def shown(url: str) -> str:
    """A URL in a message: without a query, which may hold a signature, and without user info."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.split("?")[0].rpartition("@")[2]


def region_of(endpoint: str) -> str | None:
    """Return the region that requests to a known endpoint are signed for; None if it says none."""
    host = _host(endpoint)
    for form in _S3_HOSTS:
        if found := form.fullmatch(host):
            region: str | None = found.groupdict().get("region")
            return region or next(
                (name for tail, name in _REGIONS.items() if found["host"].endswith(tail)), None
            )
    found = re.search(rf"\.s3\.{_AWS_REGION}\.vpce\.amazonaws\.com", host)
    return found["region"] if found else None


def bucket_in_host(endpoint: str) -> bool:
    """Return True for a provider that wants BUCKET.host instead of host/BUCKET."""
    return _host(endpoint).endswith(tuple(f".{domain}" for domain in _BUCKET_IN_HOST))


def is_known_service(endpoint: str) -> bool:
    """Return True for https to a host of a provider of S3, where nobody else can answer."""
    parts = urlsplit(endpoint)
    return parts.scheme == "https" and any(form.fullmatch(_host(endpoint)) for form in _S3_HOSTS)


def azure_account(endpoint: str) -> str | None:
    """Return the account of a host in one of Azure's clouds; None for any other endpoint."""
    found = _AZURE_HOST.fullmatch(_host(endpoint))
    return found["account"] if found is not None and endpoint.startswith("https:") else None


def _host(endpoint: str) -> str:
    try:
        return (urlsplit(endpoint).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _hadoop(text: str, rest: str) -> Address:
    authority, _, path = rest.partition("/")
    container, separator, host = authority.partition("@")
    found = _AZURE_HOST.fullmatch(host.lower())
    if not separator or found is None:
        raise ConfigurationError(
            f"{shown(text)} is not of the form abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"
        )
    return Address(
        url=f"az://{found['account']}/{container}/{path}", endpoint=_azure_endpoint(found)
    )


def _web(text: str) -> Address:
    """The address behind http(s)://, which names a host."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # Not even shown(): what stands before an odd sign that is no @ may be a password.
        raise ConfigurationError("the URL of a location cannot be read: correct it") from None
    if parts.query or parts.fragment or parts.username is not None:
        raise ConfigurationError(
            f"{shown(text)}: a location has no query, fragment or user; write what stands before"
        )
    path = unquote(parts.path).lstrip("/")
    service = f"{parts.scheme}://{parts.netloc}"
    if path.split("/")[0] == DEVELOPMENT_ACCOUNT:
        return _named(
            text, f"az://{path}", path.partition("/")[2], f"{service}/{path.split('/')[0]}"
        )
    plain = parts.scheme == "https" and port in (None, 443)
    if plain and (found := _AZURE_HOST.fullmatch(host)):
        return _named(text, f"az://{found['account']}/{path}", path, _azure_endpoint(found))
    for form in _S3_HOSTS if plain else ():
        if found := form.fullmatch(host):
            name = f"{found['bucket']}/{path}" if found["bucket"] else path
            return _named(text, f"s3://{name}", name, f"https://{found['host']}")
    raise ConfigurationError(
        f"{shown(text)} is not a location: no store is known at {host or 'its host'} by "
        f"its name; write az://ACCOUNT/CONTAINER/PREFIX or s3://BUCKET/PREFIX, with {service} as "
        "the endpoint"
    )


def _named(text: str, url: str, name: str, endpoint: str) -> Address:
    if not name:
        raise ConfigurationError(f"{shown(text)} names no container or bucket: add it")
    return Address(url=url, endpoint=endpoint)


def _azure_endpoint(found: re.Match[str]) -> str:
    return f"https://{found['account']}{found['place']}.blob.{found['cloud']}"
