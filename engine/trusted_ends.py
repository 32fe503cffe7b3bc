"""Where a job may send credentials: to what its user has named, not to what a file says alone.

    $XDG_CACHE_HOME/noria/jobs/DIGEST      ~/.cache if that is not set; empty

job.json says where both ends are, and whoever can write it could have a SAS, a token or objects
sent elsewhere. So endpoints are fixed when a job is planned, and each is used only if one of these
names it: the job file or command of this run; the variables and AWS profile of this environment;
the domain of a provider (addresses.py), where nobody else can answer; or a note that this user has
planned or run the job with it before. A note is believed only if nobody else could have written it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from noria.engine.config.addresses import azure_account, is_known_service
from noria.engine.config.jobfile import EndConfig, JobConfig
from noria.engine.config.locations import Scheme
from noria.engine.config.stores import service_url
from noria.manifests.errors import ConfigurationError

KEPT_SECONDS: Final = 400 * 24 * 3600.0
"""A note of a job that was not run for longer is deleted."""
LOOK_SECONDS: Final = 24 * 3600.0
_ROLES: Final = ("source", "target")


def planned_endpoints(
    config: JobConfig, environment: Mapping[str, str] = os.environ
) -> dict[str, str | None]:
    """Where both ends answer in this environment; for job.json. Raises ConfigurationError."""
    return {
        "source": service_url(config.source, environment, read_only=True),
        "target": service_url(config.target, environment),
    }


def trust_ends(job_id: str, config: JobConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Note that this user has named these ends. Without a place for a note, do nothing."""
    _leave(_note(job_id, config, environment))


def _leave(note: Path | None) -> None:
    if note is None:
        return
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_old(note.parent)
        os.close(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        os.utime(note)


def trust_file(data: bytes, environment: Mapping[str, str] = os.environ) -> None:
    """Note that this user has named all ends in a file with this content."""
    _leave(_place(hashlib.sha256(data).hexdigest(), environment))


def is_trusted_file(data: bytes, environment: Mapping[str, str] = os.environ) -> bool:
    """Return True if trust_file() has noted this very content."""
    return _is_own(_place(hashlib.sha256(data).hexdigest(), environment))


def check_named(
    root: Path, job_id: str, config: JobConfig, environment: Mapping[str, str] = os.environ
) -> None:
    """Raise ConfigurationError if nobody but the files at root names an endpoint of the job."""
    for role, end in zip(_ROLES, (config.source, config.target), strict=True):
        named = end.endpoint is None or _is_named(role, end, environment)
        if not named and not _is_own(_note(job_id, config, environment)):
            raise ConfigurationError(
                f"{root} names the endpoint {end.endpoint} for its {role}, and neither this "
                "environment nor an earlier command of this user does: run it with its job file, "
                f"or name the endpoint in {_variable(end)} if it is yours"
            )


def check_unchanged(
    root: Path,
    config: JobConfig,
    planned: Mapping[str, str | None],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Raise ConfigurationError if this environment leads elsewhere than planned_endpoints() did."""
    for role, endpoint in planned_endpoints(config, environment).items():
        if planned.get(role) != endpoint:
            raise ConfigurationError(
                f"{root} was planned with its {role} at {planned.get(role) or 'its own cloud'}, "
                f"and this environment leads to {endpoint or 'its own cloud'}: set the variables "
                "as they were, or plan another job"
            )


def _is_named(role: str, end: EndConfig, environment: Mapping[str, str]) -> bool:
    endpoint = end.endpoint or ""
    if is_known_service(endpoint) and end.location.scheme is Scheme.S3:
        return True
    if end.location.scheme is Scheme.AZURE and azure_account(endpoint) == end.location.account:
        return True
    bare = end.model_copy(update={"endpoint": None})
    return service_url(bare, environment, read_only=role == "source") == endpoint


def _variable(end: EndConfig) -> str:
    if end.location.scheme is Scheme.AZURE:
        return "AZURE_STORAGE_SERVICE_ENDPOINT"
    return "AWS_ENDPOINT_URL_S3"


def _note(job_id: str, config: JobConfig, environment: Mapping[str, str]) -> Path | None:
    """Where the note of these very ends of this job is; None without a home directory."""
    ends = [(end.url, end.endpoint) for end in (config.source, config.target)]
    digest = hashlib.sha256(repr((job_id, ends)).encode(errors="surrogateescape")).hexdigest()
    return _place(digest, environment)


def _remove_old(folder: Path) -> None:
    """Remove notes that nobody needs; looked for once a day, for there may be thousands."""
    looked = folder / ".looked"
    with contextlib.suppress(FileNotFoundError):
        if time.time() - looked.lstat().st_mtime < LOOK_SECONDS:
            return
    os.close(os.open(looked, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    os.utime(looked)
    for old in folder.iterdir():
        if time.time() - old.lstat().st_mtime > KEPT_SECONDS:
            old.unlink()


def _place(digest: str, environment: Mapping[str, str]) -> Path | None:
    """Where a note of that digest is; None without a home directory."""
    home = environment.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):
        folder = Path(home) if os.path.isabs(home) else Path("~/.cache").expanduser()
        return folder / "noria" / "jobs" / digest
    return None


def _is_own(note: Path | None) -> bool:
    if note is None:
        return False
    try:
        for path, kind in ((note.parent, stat.S_IFDIR), (note, stat.S_IFREG)):
            status = os.lstat(path)
            if (
                stat.S_IFMT(status.st_mode) != kind
                or status.st_uid != os.geteuid()
                or status.st_mode & 0o022
            ):
                return False
    except OSError:
        return False
    return True
