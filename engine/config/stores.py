"""Builds the store at one end of a job, with the credentials of this process.

Noria's own environment variables and Azure's are read here and in azure_access.py; AWS's chain and
azure-identity read theirs. The client of a store is loaded when an end needs it: the three together
take a tenth of a second.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from noria.engine.config.azure_access import azure_access
from noria.engine.config.locations import (
    End,
    Scheme,
    provider_of,
    s3_endpoint,
    s3_path_style,
    s3_region,
)
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import LinkPolicy
from noria.workers.http.environment import read_variable
from noria.workers.http.proxies import Proxies
from noria.workers.http.resting import RestingConnections
from noria.workers.stores.inspection import InspectedStore

if TYPE_CHECKING:
    from noria.workers.stores.azure.settings import AzureSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastPace:
    """How slow a connection may be: see RunConfig. The defaults are for the driver's requests."""

    idle_seconds: float = 60.0
    least_rate: float = 1024.0
    """Bytes a second, over a minute; 0: any."""


_AWS_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,63}")


def open_end(
    end: End,
    environment: Mapping[str, str] = os.environ,
    *,
    read_only: bool = False,
    ask_crc64: bool = False,
    pace: LeastPace = LeastPace(),
    resting: RestingConnections | None = None,
) -> InspectedStore:
    """The store at one end, with this process's credentials. Nothing is sent yet.

    `read_only` is for sources: what is derived from an account key then allows only reading, and
    a folder lists its empty folders.
    `ask_crc64` is for sources whose bytes are moved: see RunConfig.source_crc64. A connection that
    is slower than `pace` counts as broken. `resting` has connections that other stores of this
    process have done with, and gets those of this one when it is closed.
    """
    location = end.location
    if location.scheme is Scheme.FILE:
        return _open_folder(Path(location.container), end.links, read_only=read_only)
    if location.scheme is Scheme.AZURE:
        settings = _azure_settings(end, environment, pace, read_only=read_only, ask_crc64=ask_crc64)
        return _azure_store(settings, resting)
    return _open_s3(end, environment, pace, resting)


def speaks_https(
    end: End, environment: Mapping[str, str] = os.environ, *, read_only: bool = False
) -> bool:
    """Whether the store at this end is reached over https. Nothing is sent, nothing is raised."""
    endpoint = None
    # What cannot be read is refused when the store is opened.
    with contextlib.suppress(ConfigurationError):
        endpoint = service_url(end, environment, read_only=read_only)
    if endpoint is None:
        return end.location.scheme is not Scheme.FILE
    return not endpoint.lower().startswith("http:")


def service_url(
    end: End, environment: Mapping[str, str] = os.environ, *, read_only: bool = False
) -> str | None:
    """Where this end's requests go. None: to files, or to the cloud's own endpoint.

    Raises ConfigurationError if the environment contradicts the end.
    """
    scheme = end.location.scheme
    if scheme is Scheme.S3:
        return s3_endpoint(end, environment)
    if scheme is Scheme.AZURE:
        return end.endpoint or azure_access(end, environment, read_only=read_only).endpoint
    return None


def _open_folder(path: Path, links: LinkPolicy, *, read_only: bool) -> InspectedStore:
    from noria.workers.stores.local.store import LocalSettings, LocalStore

    # A file is one object of its folder to be read. As a target it is refused: what is written
    # would lie beside it.
    root = path.parent if read_only and path.is_file() else path
    return LocalStore(LocalSettings(root=root, links=links, lists_empty_folders=read_only))


def _azure_settings(
    end: End,
    environment: Mapping[str, str],
    pace: LeastPace,
    *,
    read_only: bool,
    ask_crc64: bool,
) -> AzureSettings:
    from noria.workers.stores.azure.settings import AzureSettings

    access = azure_access(end, environment, read_only=read_only)
    return AzureSettings(
        account=end.location.account,
        container=end.location.container,
        endpoint=end.endpoint or access.endpoint,
        sas=access.sas,
        account_key=access.account_key,
        anonymous=end.anonymous,
        identity_allowed=access.identity_allowed,
        ca_bundle=ca_bundle(end, environment),
        proxies=Proxies.of(environment),
        allow_plain_http=end.allow_plain_http,
        tier=end.storage_class,
        read_only=read_only,
        ask_crc64=ask_crc64,
        idle_seconds=pace.idle_seconds,
        least_rate=pace.least_rate,
    )


def _azure_store(settings: AzureSettings, resting: RestingConnections | None) -> InspectedStore:
    from noria.workers.stores.azure.store import AzureStore

    return AzureStore(settings, resting=resting)


def _open_s3(
    end: End,
    environment: Mapping[str, str],
    pace: LeastPace,
    resting: RestingConnections | None,
) -> InspectedStore:
    from noria.workers.stores.s3.store import S3Settings, S3Store

    endpoint = s3_endpoint(end, environment)
    provider = provider_of(end, environment)
    if provider == "aws" and not _AWS_BUCKET.fullmatch(end.location.container):
        raise ConfigurationError(
            f"{end.location} is not a bucket of Amazon S3; correct the name, or set an endpoint"
        )
    return S3Store(
        S3Settings(
            bucket=end.location.container,
            endpoint_url=endpoint,
            region=s3_region(end, environment),
            provider=provider,
            profile=end.profile,
            path_style=s3_path_style(end, environment),
            anonymous=end.anonymous,
            ca_bundle=ca_bundle(end, environment),
            proxies=Proxies.of(environment),
            allow_plain_http=end.allow_plain_http,
            storage_class=end.storage_class,
            encryption=end.encryption,
            kms_key_id=end.kms_key_id,
            acl=end.acl,
            request_payer=end.request_payer,
            idle_seconds=pace.idle_seconds,
            least_rate=pace.least_rate,
        ),
        resting=resting,
    )


def ca_bundle(end: End, environment: Mapping[str, str]) -> str | None:
    """The roots to trust at this end alone, by the first of all that its clouds' clients read.

    None: those of SSL_CERT_FILE and SSL_CERT_DIR, which OpenSSL reads by itself, else the system's.
    Raises ConfigurationError for one that is not there: OpenSSL would trust nobody, and say less.
    """
    names = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
    if end.location.scheme is Scheme.S3:
        names.insert(0, "AWS_CA_BUNDLE")
    for name in names if end.ca_bundle is None else ():
        path = read_variable(environment, name)
        if path is None:
            continue
        if not os.access(path, os.R_OK):
            raise ConfigurationError(f"{name} names {path}, which cannot be read: correct it")
        return path if name != "SSL_CERT_FILE" else None
    if end.ca_bundle is None and end.location.scheme is Scheme.S3:
        from noria.workers.stores.s3.profiles import read_profile

        return read_profile(end.profile, environment).ca_bundle
    return end.ca_bundle
