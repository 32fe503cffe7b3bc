"""What a profile of AWS's configuration files says of its store: region, endpoint, roots to trust.

The keys of a profile are botocore's to find (credentials.py). Its own reader parses the files, so
that both see the same; without such files it is not loaded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from noria.manifests.errors import ConfigurationError
from noria.workers.http.environment import bare, read_variable

_FILES = (
    ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
    ("AWS_CONFIG_FILE", ".aws/config"),
)
"""Variable, and where it is below the home directory. What the second says goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreProfile:
    """Settings of a profile. None: it does not say."""

    region: str | None = None
    endpoint: str | None = None
    ca_bundle: str | None = None


def read_profile(name: str | None, environment: Mapping[str, str]) -> StoreProfile:
    """Return the profile's settings. None: that of AWS_PROFILE, else `default`.

    A profile that is not there says nothing here: whoever looks for its keys says so. Raises
    ConfigurationError if a file cannot be read.
    """
    name = name or read_variable(environment, "AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    values: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for file in _FILES:
        path = _path(environment, *file)
        if path is None:
            continue
        loaded = _load(path)
        # The file of credentials names a profile's section without the word `profile`.
        values |= loaded["profiles"].get(name) or loaded.get(name, {})
        services |= loaded["services"]
    own = services.get(values.get("services", ""), {}).get("s3", {})
    own = own if isinstance(own, dict) else {}
    return StoreProfile(
        region=_text(values, "region"),
        endpoint=_text(own, "endpoint_url") or _text(values, "endpoint_url"),
        ca_bundle=_text(values, "ca_bundle"),
    )


def _path(environment: Mapping[str, str], variable: str, below_home: str) -> str | None:
    """Return the path of a file that is there."""
    path = read_variable(environment, variable)
    home = read_variable(environment, "HOME")
    if path is None and home is not None:
        path = os.path.join(home, below_home)
    elif path is not None and path.startswith("~/") and home is not None:
        path = os.path.join(home, path[2:])
    return path if path is not None and os.path.isfile(path) else None


def _load(path: str) -> dict[str, Any]:
    import botocore.configloader
    from botocore.exceptions import BotoCoreError

    try:
        loaded: dict[str, Any] = botocore.configloader.load_config(path)
    except (BotoCoreError, OSError) as error:
        raise ConfigurationError(
            f"the AWS configuration cannot be used ({type(error).__name__} in {path}): correct it"
        ) from error
    return loaded


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    return bare(value) or None if isinstance(value, str) else None
