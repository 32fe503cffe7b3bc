"""URLs of stores, endpoints of services: parsed and checked.

Imports neither pydantic nor a store, so that it costs nothing to name a location.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import unquote, urlsplit

from noria.engine.config.addresses import (
    bucket_in_host,
    is_bare,
    is_known_service,
    read_address,
    region_of,
    shown,
)
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import LinkPolicy
from noria.manifests.plan.providers import provider_of_endpoint
from noria.workers.http.environment import read_variable

METRICS_ADDRESS = "127.0.0.1:9464"
"""Where /metrics is served unless the user says otherwise."""


class Scheme(StrEnum):
    AZURE = "az"
    S3 = "s3"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One end of a job, as its URL says."""

    scheme: Scheme
    account: str
    """Azure's account; empty elsewhere."""
    container: str
    """Container, bucket, or an absolute directory."""
    path: str
    """What follows; empty, a prefix, or the name of one object."""

    @property
    def prefix(self) -> str:
        """`path` as a directory: empty, or with one slash at its end."""
        return self.path if not self.path or self.path.endswith("/") else self.path + "/"

    def __str__(self) -> str:
        if self.scheme is Scheme.FILE:
            return f"file://{self.container}" + (f"/{self.path}" if self.path else "")
        account = f"{self.account}/" if self.account else ""
        return f"{self.scheme}://{account}{self.container}/{self.path}"


class End(Protocol):
    """One end of a job, and how it is reached: jobfile.EndConfig says what each value means."""

    @property
    def location(self) -> Location: ...
    @property
    def endpoint(self) -> str | None: ...
    @property
    def region(self) -> str | None: ...
    @property
    def provider(self) -> str | None: ...
    @property
    def profile(self) -> str | None: ...
    @property
    def ca_bundle(self) -> str | None: ...
    @property
    def allow_plain_http(self) -> bool: ...
    @property
    def path_style(self) -> bool | None: ...
    @property
    def anonymous(self) -> bool: ...
    @property
    def links(self) -> LinkPolicy: ...
    @property
    def storage_class(self) -> str | None: ...
    @property
    def encryption(self) -> str | None: ...
    @property
    def kms_key_id(self) -> str | None: ...
    @property
    def acl(self) -> str | None: ...
    @property
    def retention(self) -> str | None: ...
    @property
    def request_payer(self) -> bool: ...


def s3_endpoint(end: End, environment: Mapping[str, str] = os.environ) -> str | None:
    """Where S3 answers at this end. None: at Amazon. Raises ConfigurationError.

    The order is AWS's own, but that a profile which the end itself names goes before variables that
    hold for both ends.
    """
    if end.endpoint is not None:
        return _uncontradicted(end, end.endpoint, environment)
    if end.profile is not None:
        return _profile_endpoint(end, environment) or _endpoint_variable(environment)
    return _endpoint_variable(environment) or _profile_endpoint(end, environment)


def s3_region(end: End, environment: Mapping[str, str] = os.environ) -> str | None:
    """The region that requests at this end are signed for, if anything but AWS's chain says it.

    A host that names its region takes no other one, whatever a variable says that is meant for
    another service.
    """
    endpoint = s3_endpoint(end, environment)
    return end.region or (None if endpoint is None else region_of(endpoint))


def s3_path_style(end: End, environment: Mapping[str, str] = os.environ) -> bool | None:
    """Whether the bucket is part of the path, if the end or its host's provider says so."""
    endpoint = s3_endpoint(end, environment)
    if end.path_style is not None or endpoint is None or not is_known_service(endpoint):
        return end.path_style
    # A dot in the name would not match the host's wildcard certificate.
    return not bucket_in_host(endpoint) or "." in end.location.container


def _uncontradicted(end: End, endpoint: str, environment: Mapping[str, str]) -> str:
    """Return an end's own endpoint, if the profile that it names is not of another provider."""
    if end.profile is not None and is_known_service(endpoint):
        other = _profile_endpoint(end, environment)
        if other is not None and other.rstrip("/") != endpoint.rstrip("/"):
            raise ConfigurationError(
                f"the profile {end.profile} has the endpoint {other}, and {end.location} is at "
                f"{endpoint}: correct one of them"
            )
    return endpoint


def _endpoint_variable(environment: Mapping[str, str]) -> str | None:
    if (read_variable(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or "").lower() == "true":
        return None
    return _checked_endpoint(environment, "AWS_ENDPOINT_URL_S3") or _checked_endpoint(
        environment, "AWS_ENDPOINT_URL"
    )


def _checked_endpoint(environment: Mapping[str, str], name: str) -> str | None:
    value = read_variable(environment, name)
    if value is None:
        return None
    try:
        return check_endpoint(value)
    except ValueError as error:
        raise ConfigurationError(f"{name} is not an endpoint: {error}") from None


def _profile_endpoint(end: End, environment: Mapping[str, str]) -> str | None:
    from noria.workers.stores.s3.profiles import read_profile

    if (read_variable(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or "").lower() == "true":
        return None
    value = read_profile(end.profile, environment).endpoint
    try:
        return None if value is None else check_endpoint(value)
    except ValueError as error:
        raise ConfigurationError(f"the AWS profile's endpoint_url is none: {error}") from None


def provider_of(end: End, environment: Mapping[str, str] = os.environ) -> str:
    """Whose limits hold at this end, as far as its URL and endpoint tell."""
    if end.provider is not None:
        return end.provider
    scheme = end.location.scheme
    if scheme is Scheme.FILE:
        return "local"
    if scheme is Scheme.AZURE:
        return "azure"
    endpoint = s3_endpoint(end, environment)
    return "aws" if endpoint is None else provider_of_endpoint(endpoint)


def parse_location(url: str) -> Location:
    """az://ACCOUNT/CONTAINER/PREFIX, s3://BUCKET/PREFIX or file:///PATH. Raises ConfigurationError.

    Everything after the container is a name as it is written: `?` and `#` are part of it, and
    nothing is percent-decoded. Forms that people copy are read as well: see addresses.py.
    """
    # The same few are asked for again and again. Of a path, what is there decides.
    return _parsed_cloud(url) if url.startswith(_CLOUDS) else _parsed(url)


_CLOUDS = (f"{Scheme.AZURE}://", f"{Scheme.S3}://")


@functools.lru_cache(1024)
def _parsed_cloud(url: str) -> Location:
    return _parsed(url)


def _parsed(url: str) -> Location:
    url = read_address(url).url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in list(Scheme):
        gs = "; Google Cloud Storage speaks S3 at https://storage.googleapis.com"
        what = "is not a location"
        if os.path.lexists(url):
            what = "may be a path here, and may be a remote of another program"
        elif is_bare(url):
            what = "is neither a location nor a file or folder that is here"
        raise ConfigurationError(
            f"{shown(url)} {what}; write az://ACCOUNT/CONTAINER/PREFIX, "
            "s3://BUCKET/PREFIX, or a path that begins with / or ./"
            f"{gs if scheme in ('gs', 'gcs') else ''}"
        )
    if scheme == Scheme.FILE:
        if not rest.startswith("/"):
            raise ConfigurationError(f"{shown(url)} needs an absolute path: file:///PATH")
        path = os.path.normpath(unquote(rest))
        if "\0" in path:
            raise ConfigurationError("a file URL contains a NUL, which no path may; correct it")
        return Location(scheme=Scheme.FILE, account="", container=path, path="")
    return _cloud_location(url, Scheme(scheme), rest)


def _cloud_location(url: str, scheme: Scheme, rest: str) -> Location:
    names = rest.split("/", 2 if scheme == Scheme.AZURE else 1)
    account = names.pop(0) if scheme == Scheme.AZURE else ""
    container = names.pop(0) if names else ""
    if "@" in account + container or (scheme == Scheme.AZURE and not account) or not container:
        form = "az://ACCOUNT/CONTAINER/PREFIX" if scheme == Scheme.AZURE else "s3://BUCKET/PREFIX"
        raise ConfigurationError(f"{shown(url)} is not of the form {form}")
    if (account and not _ACCOUNT.fullmatch(account)) or not _CONTAINER.fullmatch(container):
        raise ConfigurationError(
            f"{shown(url)} has a name that no account, container or bucket can have; correct it"
        )
    return Location(
        scheme=scheme, account=account, container=container, path=names[0] if names else ""
    )


_ACCOUNT = re.compile(r"[A-Za-z0-9-]{1,63}")
_CONTAINER = re.compile(r"[A-Za-z0-9$._:-]{1,255}")
"""Wider than any store, and safe in a host name or a path; `tenant:bucket` is Ceph's."""


def check_endpoint(value: str) -> str:
    """The URL of a service, as it is. Raises ValueError; its message repeats nothing of the URL."""
    try:
        parts = urlsplit(value)
        # Both look at their part of the text only now.
        _, whole = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:
        # Its message may repeat a password.
        raise ValueError("write it as https://HOST[:PORT]") from None
    if parts.scheme not in ("http", "https") or not whole:
        raise ValueError("write it as https://HOST[:PORT]")
    if parts.username or parts.password or parts.query:
        raise ValueError("an endpoint holds no user, password, token or query; use the environment")
    return value
