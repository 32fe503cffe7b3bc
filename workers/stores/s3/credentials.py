"""Find S3's keys and region: in the environment if it states them, else as AWS's clients do.

Importing botocore takes 0.1 s of CPU, and it would find the same keys in the environment. It is
used for everything else: profiles, roles, and keys that expire.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final

from noria.manifests.errors import AccessDenied, ConfigurationError
from noria.workers.http.environment import bare, read_secret, read_variable
from noria.workers.stores.s3.profiles import read_profile
from noria.workers.stores.s3.sigv4 import SigningKeys

if TYPE_CHECKING:
    from botocore.credentials import Credentials

DEFAULT_REGION = "us-east-1"
_REGION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

_TOKENS = ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""In botocore's order."""

Keys = Callable[[], SigningKeys]
"""Returns the current keys. Raises AccessDenied if they cannot be renewed."""


def find_keys(profile: str | None, credentials: Credentials | None) -> Keys:
    """Return the keys; arguments go first. Raises ConfigurationError if there are none."""
    if credentials is None and profile is None:
        own = environment_keys(os.environ)
        if own is not None:
            return lambda: own
    return _from_botocore(profile, credentials)


def find_region(profile: str | None, environment: Mapping[str, str]) -> str:
    """Return the region that nothing nearer to the bucket states.

    Variables go before a profile that they name, and after one that the job names. Raises
    ConfigurationError for a text that cannot be one: a region becomes part of the host's name.
    """
    if profile is not None:
        stated = read_profile(profile, environment).region or environment_region(environment)
    else:
        stated = environment_region(environment) or read_profile(None, environment).region
    if stated is not None and not _REGION.fullmatch(stated):
        raise ConfigurationError(
            "AWS_REGION, AWS_DEFAULT_REGION or the profile's region is none: correct it"
        )
    return stated or DEFAULT_REGION


def environment_keys(environment: Mapping[str, str]) -> SigningKeys | None:
    """Return keys that do not expire; None if botocore has to search all its sources.

    If these keys are set and no profile is named, botocore uses them too.
    """
    access_key = read_secret(environment, "AWS_ACCESS_KEY_ID")
    secret_key = read_secret(environment, "AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or environment.get("AWS_CREDENTIAL_EXPIRATION"):
        return None
    return SigningKeys(
        access_key=access_key, secret_key=secret_key, token=read_secret(environment, *_TOKENS)
    )


def environment_region(environment: Mapping[str, str]) -> str | None:
    """Return the region that a variable states; AWS_REGION first, as for AWS's CLI."""
    return read_secret(environment, "AWS_REGION", "AWS_DEFAULT_REGION")


def credentials_end(environment: Mapping[str, str]) -> float | None:
    """Return when the environment says that its keys end, in Unix time; None if it does not."""
    stated = read_variable(environment, "AWS_CREDENTIAL_EXPIRATION")
    with contextlib.suppress(ValueError):
        return None if stated is None else datetime.fromisoformat(stated).timestamp()
    return None


def _misspelled_profile() -> str | None:
    """Return the profile of AWS_PROFILE, if that has something round it that botocore would keep.

    None otherwise: to botocore, a profile that is given goes before the keys of the environment.
    """
    names = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
    profile = read_variable(os.environ, *names)
    return None if profile in map(os.environ.get, names) else profile


def _from_botocore(profile: str | None, credentials: Credentials | None) -> Keys:
    import botocore.session
    from botocore.credentials import RefreshableCredentials
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        session = botocore.session.Session(profile=profile or _misspelled_profile())
        found = credentials or session.get_credentials()
    except (BotoCoreError, OSError, ValueError) as error:
        what = error if isinstance(error, BotoCoreError) else type(error).__name__
        raise ConfigurationError(
            f"the AWS configuration cannot be used ({what}): correct it"
        ) from error
    if found is None:
        raise ConfigurationError(
            "no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a "
            "profile, give the machine a role, or set anonymous = true at a source that anybody "
            "may read"
        )

    def keys() -> SigningKeys:
        try:
            frozen = found.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError) as error:
            # A role that may not be assumed, or the token file of a web identity.
            what = error if isinstance(error, BotoCoreError) else type(error).__name__
            raise AccessDenied(
                f"the S3 credentials cannot be had ({what}): renew them, or correct the role and "
                "the token file that AWS's variables name; then run again"
            ) from error
        return SigningKeys(
            access_key=bare(frozen.access_key),
            secret_key=bare(frozen.secret_key),
            token=None if frozen.token is None else bare(frozen.token),
            renewed=isinstance(found, RefreshableCredentials),
        )

    return keys
