"""When the credentials of each end are over, as far as the environment says so; nothing is sent.

Those that are renewed by themselves have no end: identities, roles, keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from noria.engine.config.azure_access import azure_access
from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.config.locations import Scheme
from noria.manifests.counters import StoreRole
from noria.manifests.errors import ConfigurationError
from noria.workers.http.environment import read_secret


def credential_ends(config: JobConfig, environment: Mapping[str, str]) -> dict[str, float]:
    """Store -> Unix time at which its credentials are over; those without an end are left out."""
    found = {
        StoreRole.SOURCE: _end_of(config.source, environment, read_only=True),
        StoreRole.TARGET: _end_of(config.target, environment, read_only=False),
    }
    return {str(role): end for role, end in found.items() if end is not None}


def _end_of(end: EndConfig, environment: Mapping[str, str], *, read_only: bool) -> float | None:
    if end.anonymous:
        return None
    # What cannot be read is refused when the store is opened. A client is loaded if it is needed.
    with suppress(ConfigurationError):
        if end.location.scheme is Scheme.AZURE:
            access = azure_access(end, environment, read_only=read_only)
            if access.sas is not None:
                from noria.workers.stores.azure.auth import Authorization

                return Authorization(query=access.sas).ends_at
        has_keys = read_secret(environment, "AWS_ACCESS_KEY_ID") is not None
        if end.location.scheme is Scheme.S3 and end.profile is None and has_keys:
            from noria.workers.stores.s3.credentials import credentials_end

            return credentials_end(environment)
    return None
