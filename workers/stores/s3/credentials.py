"""Find S3's keys and region: in the environment if it states both, else through botocore.

Importing botocore takes 0.1 s of CPU, and it would find the same keys in the environment. It is
used for everything else: profiles, roles, and keys that expire.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.stores.s3.sigv4 import SigningKeys

if TYPE_CHECKING:
    from botocore.credentials import Credentials

DEFAULT_REGION = "us-east-1"

_TOKENS = ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""In botocore's order."""

Keys = Callable[[], SigningKeys]
"""Returns the current keys. Raises AccessDenied if they cannot be renewed."""


def find_access(
    profile: str | None, region: str | None, credentials: Credentials | None
) -> tuple[Keys, str]:
    """Return keys and region; arguments go first. Raises ConfigurationError without any keys."""
    if credentials is None and profile is None:
        own = environment_keys(os.environ)
        known = region or environment_region(os.environ)
        if own is not None and known is not None:
            return lambda: own, known
    return _from_botocore(profile, region, credentials)


def environment_keys(environment: Mapping[str, str]) -> SigningKeys | None:
    """Return keys that do not expire; None if botocore has to search all its sources.

    If these keys are set and no profile is named, botocore uses them too.
    """
    access_key = environment.get("AWS_ACCESS_KEY_ID")
    secret_key = environment.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or environment.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    tokens = [environment[name] for name in _TOKENS if environment.get(name)]
    return SigningKeys(
        access_key=access_key, secret_key=secret_key, token=tokens[0] if tokens else None
    )


def environment_region(environment: Mapping[str, str]) -> str | None:
    """Return the region; None if only a configuration file may name one."""
    return environment.get("AWS_DEFAULT_REGION") or None


def _from_botocore(
    profile: str | None, region: str | None, credentials: Credentials | None
) -> tuple[Keys, str]:
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session(profile=profile)
        region = region or session.get_config_variable("region") or DEFAULT_REGION
        found = credentials or session.get_credentials()
    except BotoCoreError as error:
        raise ConfigurationError(
            f"the AWS configuration cannot be used ({error}): correct it"
        ) from error
    if found is None:
        raise ConfigurationError(
            "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a "
            "profile, or give the machine a role"
        )

    def keys() -> SigningKeys:
        try:
            frozen = found.get_frozen_credentials()
        except BotoCoreError as error:
            raise AccessDenied(
                f"the S3 credentials cannot be renewed ({error}): renew them, then run again"
            ) from error
        return SigningKeys(
            access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token
        )

    return keys, region
