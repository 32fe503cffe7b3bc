"""S3's keys and region where the environment states both: what botocore finds there, without the
0.1 s of CPU that it takes to import.

Everything else (profiles, roles, keys that expire) is botocore's.
"""

from __future__ import annotations

from collections.abc import Mapping

from noria.workers.stores.s3.sigv4 import SigningKeys

_TOKENS = ("AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""In botocore's order."""


def environment_keys(environment: Mapping[str, str]) -> SigningKeys | None:
    """Keys that hold for as long as the process lives; None where the whole chain has to be asked.

    With these, and without a profile that was asked for by name, botocore looks no further.
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
    """None where a configuration file may name one."""
    return environment.get("AWS_DEFAULT_REGION") or None
