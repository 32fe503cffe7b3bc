"""Builds the store at one end of a job, with the credentials of this process.

Noria's own environment variables and Azure's connection string are read here; AWS's chain and
azure-identity read theirs. The client of a store is loaded when an end needs it: the three together
take a tenth of a second.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from noria.engine.config.locations import End, Scheme, provider_of, s3_endpoint
from noria.manifests.errors import ConfigurationError
from noria.workers.stores.protocol import TargetStore

_AWS_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,63}")


def open_end(
    end: End,
    environment: Mapping[str, str] = os.environ,
    *,
    read_only: bool = False,
    ask_crc64: bool = False,
) -> TargetStore:
    """The store at one end, with this process's credentials. Nothing is sent yet.

    `read_only` is for sources: what is derived from an account key then allows only reading.
    `ask_crc64` is for sources whose bytes are moved: see RunConfig.source_crc64.
    """
    location = end.location
    if location.scheme is Scheme.FILE:
        return _open_folder(Path(location.container))
    if location.scheme is Scheme.AZURE:
        return _open_azure(end, environment, read_only=read_only, ask_crc64=ask_crc64)
    return _open_s3(end, environment)


def speaks_https(
    end: End, environment: Mapping[str, str] = os.environ, *, read_only: bool = False
) -> bool:
    """Whether the store at this end is reached over https. Nothing is sent, nothing is raised."""
    scheme = end.location.scheme
    if scheme is Scheme.FILE:
        return False
    endpoint = s3_endpoint(end, environment) if scheme is Scheme.S3 else end.endpoint
    if endpoint is None and scheme is Scheme.AZURE:
        from noria.workers.stores.azure.auth import parse_connection_string

        connection_string, _ = _azure_variables(environment, read_only=read_only)
        # One that cannot be read is refused when the store is opened.
        with contextlib.suppress(ConfigurationError):
            stated = parse_connection_string(connection_string or "")
            endpoint = stated.endpoint if stated.account == end.location.account else None
    return endpoint is None or not endpoint.lower().startswith("http:")


def _open_folder(path: Path) -> TargetStore:
    from noria.workers.stores.local.store import LocalSettings, LocalStore

    return LocalStore(LocalSettings(root=path.parent if path.is_file() else path))


def _open_azure(
    end: End, environment: Mapping[str, str], *, read_only: bool, ask_crc64: bool
) -> TargetStore:
    from noria.workers.stores.azure.settings import AzureSettings
    from noria.workers.stores.azure.store import AzureStore

    connection_string, sas = _azure_variables(environment, read_only=read_only)
    return AzureStore(
        AzureSettings(
            account=end.location.account,
            container=end.location.container,
            endpoint=end.endpoint,
            connection_string=connection_string,
            sas=sas,
            ca_bundle=end.ca_bundle,
            allow_plain_http=end.allow_plain_http,
            tier=end.storage_class,
            read_only=read_only,
            ask_crc64=ask_crc64,
        )
    )


def _azure_variables(
    environment: Mapping[str, str], *, read_only: bool
) -> tuple[str | None, str | None]:
    """Connection string and SAS of one end: those of its role before those for both."""
    own = "NORIA_SOURCE_" if read_only else "NORIA_TARGET_"
    connection_string, sas = (
        environment.get(own + name) or environment.get(name)
        for name in ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_SAS_TOKEN")
    )
    return connection_string, sas


def _open_s3(end: End, environment: Mapping[str, str]) -> TargetStore:
    from noria.workers.stores.s3.store import S3Settings, S3Store

    endpoint = s3_endpoint(end, environment)
    if endpoint is None and not _AWS_BUCKET.fullmatch(end.location.container):
        raise ConfigurationError(
            f"{end.location} is not a bucket of Amazon S3; correct the name, or set an endpoint"
        )
    return S3Store(
        S3Settings(
            bucket=end.location.container,
            endpoint_url=endpoint,
            region=end.region,
            provider=provider_of(end, environment),
            profile=end.profile,
            ca_bundle=end.ca_bundle or environment.get("AWS_CA_BUNDLE"),
            allow_plain_http=end.allow_plain_http,
            storage_class=end.storage_class,
            encryption=end.encryption,
            kms_key_id=end.kms_key_id,
            acl=end.acl,
            request_payer=end.request_payer,
        )
    )
