"""Every setting of a job with its value, its unit, and where it comes from.

What there is comes from the fields of jobfile.JobConfig. Of credentials, only the source is told:
the variables that hold them are named, and never read out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from noria.engine.config.azure_access import azure_access
from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.config.locations import Scheme, provider_of, s3_endpoint, s3_region
from noria.engine.config.refused_settings import SettingPath
from noria.engine.config.stores import ca_bundle

DEFAULT: Final = "default"
_UNITS: Final = {
    "_bytes": "bytes",
    "_size": "bytes",
    "_seconds": "s",
    "_rate": "bytes/s",
    "bandwidth": "bytes/s",
}
"""By the end of a setting's name."""
_OF_A_SOURCE: Final = frozenset({"anonymous", "links"})
_OF_A_TARGET: Final = frozenset(
    {"storage_class", "encryption", "kms_key_id", "acl", "retention", "create"}
)
_OF_S3: Final = frozenset(
    {"region", "profile", "path_style", "encryption", "kms_key_id", "acl", "request_payer"}
)
_OF_A_CLOUD: Final = _OF_S3 | {
    "endpoint", "ca_bundle", "allow_plain_http", "anonymous", "storage_class", "create"
}  # fmt: skip
_OF_A_FOLDER: Final = frozenset({"links"})
_HOLD_SECRETS: Final = ("_KEY", "_KEY_ID", "_TOKEN", "_CONNECTION_STRING", "_PROFILE")
"""How the names end of variables that open a store, or say what does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingInForce:
    """One setting."""

    name: str
    """As in a job file: SECTION.NAME."""
    value: Any
    """As JSON has it; None: not set, or "auto"."""
    unit: str | None
    origin: str
    """"default", FILE:LINE, "command line", or a variable's name."""


class NotedEnvironment(Mapping[str, str]):
    """An environment that notes which of its variables were found, in order, and no value."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.found: list[str] = []

    def __getitem__(self, name: str) -> str:
        value = self._environment[name]
        if value.strip() and name not in self.found:
            self.found.append(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environment)

    def __len__(self) -> int:
        return len(self._environment)


def settings_in_force(
    config: JobConfig,
    origins: Mapping[SettingPath, str],
    environment: Mapping[str, str] = os.environ,
    *,
    of_any_store: bool = False,
) -> Iterator[SettingInForce]:
    """All settings in the order of a job file. `origins` says where those that were given stand.

    Of an end, those that a source or target of its kind takes; `of_any_store`: of any kind. One
    that was given all the same is there, and its origin says that it has no effect.

    Raises ConfigurationError if the environment contradicts the job, or cannot be read.
    """
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        section = getattr(config, name)
        if not isinstance(section, BaseModel):
            yield _setting((name,), values[name], field.get_default(), origins)
            continue
        found = (
            _of_environment(name, section, environment) if isinstance(section, EndConfig) else {}
        )
        for key, each in type(section).model_fields.items():
            value, default = values[name][key], each.get_default()
            setting = _setting((name, key), value, default, origins)
            if isinstance(section, EndConfig) and not _takes(
                name, None if of_any_store else section.location.scheme, key
            ):
                if setting.origin == DEFAULT:
                    continue
                setting = replace(setting, origin=f"{setting.origin}; no effect at this end")
            if value is None and key in found:
                value, origin = found[key]
                setting = SettingInForce(
                    name=setting.name, value=value, unit=setting.unit, origin=origin
                )
            yield setting
        if isinstance(section, EndConfig) and section.location.scheme is not Scheme.FILE:
            yield SettingInForce(
                name=f"{name}.credentials",
                value=None,
                unit=None,
                origin=_credentials(name, section, environment),
            )


def _takes(role: str, scheme: Scheme | None, setting: str) -> bool:
    """Whether a source or target of this scheme takes a setting. None: of any scheme."""
    others = _OF_A_TARGET if role == "source" else _OF_A_SOURCE
    if scheme is Scheme.FILE:
        others |= _OF_A_CLOUD
    elif scheme is not None:
        others |= _OF_A_FOLDER
    if scheme is Scheme.AZURE:
        others |= _OF_S3
    return setting not in others


def _setting(
    path: SettingPath, value: Any, default: Any, origins: Mapping[SettingPath, str]
) -> SettingInForce:
    name = str(path[-1])
    origin = origins.get(path)
    if origin is None and value not in (None, default, [], False):
        # A URL may name the endpoint, and `source = URL` or rules_from stand for another setting.
        above = origins.get((*path[:1], "rules_from" if name == "rules" else "url"))
        origin = above or origins.get(path[:1])
    unit = next((unit for tail, unit in _UNITS.items() if name.endswith(tail)), None)
    return SettingInForce(
        name=".".join(map(str, path)), value=value, unit=unit, origin=origin or DEFAULT
    )


def _of_environment(
    role: str, end: EndConfig, environment: Mapping[str, str]
) -> dict[str, tuple[Any, str]]:
    """What an end has that neither a job file nor an option says, and where that comes from."""
    scheme = end.location.scheme
    if scheme is Scheme.FILE:
        return {}
    noted = NotedEnvironment(environment)
    roots = ca_bundle(end, noted)
    found: dict[str, tuple[Any, str]] = {}
    if roots is not None:
        found["ca_bundle"] = (roots, noted.found[0] if noted.found else "AWS profile")
    noted = NotedEnvironment(environment)
    if scheme is Scheme.AZURE:
        endpoint = azure_access(end, noted, read_only=role == "source").endpoint
        names = [name for name in noted.found if name.endswith(("_STRING", "_ENDPOINT"))]
    else:
        endpoint = s3_endpoint(end, noted)
        names = [name for name in noted.found if "ENDPOINT_URL" in name]
    if endpoint is not None:
        found["endpoint"] = (endpoint, names[0] if names else "AWS profile")
    found["provider"] = (provider_of(end, environment), "URL and endpoint")
    if scheme is Scheme.S3:
        found["region"] = _region(end, environment)
    return found


def _region(end: EndConfig, environment: Mapping[str, str]) -> tuple[str, str]:
    from noria.workers.stores.s3.credentials import DEFAULT_REGION, find_region

    named = s3_region(end, environment)
    if named is not None:
        return named, "endpoint"
    noted = NotedEnvironment(environment)
    region = find_region(end.profile, noted)
    names = [name for name in noted.found if name.endswith("REGION")]
    return region, names[0] if names else DEFAULT if region == DEFAULT_REGION else "AWS profile"


def _credentials(role: str, end: EndConfig, environment: Mapping[str, str]) -> str:
    """Where the credentials of an end come from; none of them is repeated."""
    if end.anonymous:
        return "none: anonymous"
    noted = NotedEnvironment(environment)
    if end.location.scheme is Scheme.AZURE:
        azure_access(end, noted, read_only=role == "source")
        otherwise = "azure-identity"
    elif end.profile is not None:
        return f"AWS profile {end.profile}"
    else:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            noted.get(name)
        if "AWS_ACCESS_KEY_ID" not in noted.found:
            noted.get("AWS_PROFILE")
        otherwise = "AWS's chain: shared files, or a role"
    names = [name for name in noted.found if name.endswith(_HOLD_SECRETS)]
    return " and ".join(names) or otherwise
