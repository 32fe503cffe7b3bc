"""Noria and its peers as commands, each with the flags that were found best for a workload.

Peers do the same work: every object arrives, whole. What a tool finds out about the bytes on the
way is said in `proves`, what else it leaves out in `note`. Flags were chosen by
`python -m noria.benchmarks.suite.tuning`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from noria.benchmarks.servers import REGION, find_tool
from noria.benchmarks.suite.openssl import library_environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A container to read and an empty bucket to write, with what it takes to get at them."""

    connection_string: str
    account: str
    container: str
    endpoint: str
    """Of the S3 service; no slash at its end."""
    access_key: str
    secret_key: str
    bucket: str
    ca_bundle: Path | None = None
    """Set if both sides speak https."""
    takes_trailers: bool = True
    """False for a target that cannot take a checksum behind a body of unstated length."""

    def env(self) -> dict[str, str]:
        """What every tool finds in its environment; nothing comes from the developer's own."""
        trusted = {} if self.ca_bundle is None else {"SSL_CERT_FILE": str(self.ca_bundle)}
        return {
            "PATH": os.defpath,
            "AZURE_STORAGE_CONNECTION_STRING": self.connection_string,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            **trusted,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One command, ready to run in a folder of its own."""

    command: Sequence[str]
    environment: Mapping[str, str]


NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One way to do the work."""

    name: str
    """As plots and tables show it."""
    tool: str
    invoke: Callable[[Ends, Path], Invocation]
    """The command, given both ends and an empty folder."""
    flags: str = ""
    """What the report says of the command."""
    note: str = ""
    proves: str = NOTHING
    """About the bytes; begins with NOTHING if it checks none of them. README.md has the sources."""
    roles: Callable[[str], str] = field(default=lambda command: "tool")
    cluster_port: int | None = None
    """Of a Ray cluster that is started before, and whose CPU counts from then on."""

    @property
    def checks_bytes(self) -> bool:
        return not self.proves.startswith(NOTHING)


# -- Noria -----------------------------------------------------------------------------------------

PROVEN_BY_NORIA = (
    "CRC64 of each part as it passes, against the target's and, if it states one, the source's; a "
    "receipt for each object; the target's listing at the end"
)

NORIA_ROLES = {
    "gcs_server": "Ray: control store",
    "raylet": "Ray: raylet",
    "/agent": "Ray: agents",
    "Agent": "Ray: agents",
    "agent.py": "Ray: agents",
    "/dashboard/": "Ray: dashboard",
    "monitor.py": "Ray: monitors",
    "ray::WorkerActor": "Noria: workers",
    "ray::IDLE": "Ray: idle workers",
    "default_worker.py": "Ray: idle workers",
    "noria.engine.cluster.worker_process": "Noria: workers",
    "noria.engine.cluster.ray_gateway": "Noria: gateway to Ray",
}
"""What a command line or title holds -> the role; the first that fits counts."""


def noria_role(command: str) -> str:
    # The raylet's command line holds that of the workers it is to start.
    program, _, arguments = command.partition(" ")
    if Path(program).name in ("raylet", "gcs_server"):
        return NORIA_ROLES[Path(program).name]
    if program.startswith("ray::"):
        arguments = ""
    if Path(arguments.partition(" ")[0]).name == "noria":
        return "Noria: driver"
    words = program + " " + arguments
    return next((role for mark, role in NORIA_ROLES.items() if mark in words), "other")


def noria(
    *,
    name: str = "Noria",
    program: Path | None = None,
    cluster_port: int | None = None,
    flags: Sequence[str] = (),
    own_library: bool = False,
) -> Tool:
    """`noria copy` as a user would call it.

    `program` is the command of another revision; the default is that of this environment. Workers
    are processes of this machine, or with `cluster_port` those of a Ray cluster that runs already.
    `own_library` is for https with the interpreter's own OpenSSL if another one is lent.
    """
    library = {} if own_library else library_environment()
    if cluster_port is not None:
        flags = [*flags, "--address", f"127.0.0.1:{cluster_port}"]

    def invoke(ends: Ends, folder: Path) -> Invocation:
        return Invocation(
            command=_noria_command(program or _own_program(), ends, folder, flags),
            environment={
                **ends.env(),
                **library,
                "HOME": str(folder),
                "RAY_TMPDIR": str(folder),
            },
        )

    return Tool(
        name=name,
        tool="noria",
        invoke=invoke,
        flags=" ".join(["noria copy SOURCE TARGET --job DIR --quiet --json", *flags]),
        proves=PROVEN_BY_NORIA,
        roles=noria_role,
        cluster_port=cluster_port,
    )


def _own_program() -> Path:
    return Path(sys.executable).with_name("noria")


def _noria_command(program: Path, ends: Ends, folder: Path, flags: Sequence[str]) -> list[str]:
    source, target = f"az://{ends.account}/{ends.container}", f"s3://{ends.bucket}"
    # Two at once would fight for the port of /metrics; the peers serve none either, or on port 0.
    output = ["--quiet", "--json", "--metrics-address", "off", *flags]
    if ends.ca_bundle is None:
        return [str(program), "copy", source, target, "--job", str(folder / "job"), *output]
    job_file = folder / "job.toml"
    trust = f'ca_bundle = "{ends.ca_bundle}"'
    job_file.write_text(
        f'[source]\nurl = "{source}"\n{trust}\n[target]\nurl = "{target}"\n{trust}\n'
    )
    return [str(program), "run", str(job_file), *output]


# -- rclone ----------------------------------------------------------------------------------------


def rclone(
    flags: Sequence[str], *, name: str = "rclone", note: str = "", proves: str = NOTHING
) -> Tool:
    def invoke(ends: Ends, folder: Path) -> Invocation:
        trust = [] if ends.ca_bundle is None else ["--ca-cert", str(ends.ca_bundle)]
        places = [f"source:{ends.container}", f"target:{ends.bucket}"]
        environment = {
            **ends.env(),
            "HOME": str(folder),
            "RCLONE_CONFIG_SOURCE_TYPE": "azureblob",
            "RCLONE_CONFIG_SOURCE_CONNECTION_STRING": ends.connection_string,
            "RCLONE_CONFIG_TARGET_TYPE": "s3",
            "RCLONE_CONFIG_TARGET_PROVIDER": "SeaweedFS",
            "RCLONE_CONFIG_TARGET_ENV_AUTH": "true",
            "RCLONE_CONFIG_TARGET_ENDPOINT": ends.endpoint,
            # Without it the blob's tier goes out as a storage class, which the target refuses.
            "RCLONE_CONFIG_TARGET_STORAGE_CLASS": "STANDARD",
        }
        command = [str(find_tool("rclone")), "--config", os.devnull, "copy", *places]
        return Invocation(command=[*command, *flags, *trust], environment=environment)

    return Tool(
        name=name,
        tool="rclone",
        invoke=invoke,
        flags=" ".join(["rclone copy SOURCE TARGET", *flags]),
        note=note,
        proves=proves,
    )


# -- juicefs sync ----------------------------------------------------------------------------------


def juicefs(
    flags: Sequence[str], *, name: str = "juicefs sync", note: str = "", proves: str = NOTHING
) -> Tool:
    def invoke(ends: Ends, folder: Path) -> Invocation:
        # Its minio scheme speaks http, its s3 scheme https; the source follows the environment.
        scheme = "minio" if ends.ca_bundle is None else "s3"
        host = urlsplit(ends.endpoint).netloc
        places = [
            f"wasb://{ends.container}/",
            f"{scheme}://{ends.access_key}:{ends.secret_key}@{host}/{ends.bucket}/",
        ]
        return Invocation(
            command=[str(find_tool("juicefs")), "sync", *places, *flags],
            environment={**ends.env(), "HOME": str(folder)},
        )

    return Tool(
        name=name,
        tool="juicefs",
        invoke=invoke,
        flags=" ".join(["juicefs sync SOURCE TARGET", *flags]),
        note=note,
        proves=proves,
    )


# -- msc sync --------------------------------------------------------------------------------------


def msc(
    settings: Sequence[str], *, name: str = "msc sync", note: str = "", proves: str = NOTHING
) -> Tool:
    """NVIDIA's multi-storage-client, which is told most things by its configuration.

    Each setting is NAME=VALUE: of the environment, or as `source.OPTION=JSON` or
    `target.OPTION=JSON` of a store.
    """

    def invoke(ends: Ends, folder: Path) -> Invocation:
        profiles = _msc_profiles(ends)
        environment: dict[str, str] = {}
        for setting in settings:
            key, _, value = setting.partition("=")
            end, dot, option = key.partition(".")
            if dot:
                profiles[end]["storage_provider"]["options"][option] = json.loads(value)
            else:
                environment[key] = value
        configuration = folder / "msc.json"
        configuration.write_text(json.dumps({"profiles": profiles}))
        trust = {} if ends.ca_bundle is None else {"REQUESTS_CA_BUNDLE": str(ends.ca_bundle)}
        return Invocation(
            command=[
                str(find_tool("msc")),
                "sync",
                "msc://source/",
                "--target-url",
                "msc://target/",
            ],
            environment={
                "PATH": os.defpath,
                **library_environment(),
                "HOME": str(folder),
                "TMPDIR": str(folder),
                "MSC_CONFIG": str(configuration),
                **trust,
                **environment,
            },
        )

    return Tool(
        name=name,
        tool="msc",
        invoke=invoke,
        flags=" ".join([*settings, "msc sync SOURCE --target-url TARGET"]),
        note=note,
        proves=proves,
    )


def _msc_profiles(ends: Ends) -> dict[str, Any]:
    target: dict[str, Any] = {
        "base_path": ends.bucket,
        "endpoint_url": ends.endpoint,
        "region_name": REGION,
    }
    if ends.ca_bundle is not None:
        target["verify"] = str(ends.ca_bundle)
        if not ends.takes_trailers:
            target["request_checksum_calculation"] = "when_required"
    keys = {"access_key": ends.access_key, "secret_key": ends.secret_key}
    return {
        "source": {
            "storage_provider": {
                "type": "azure",
                "options": {"base_path": ends.container, "endpoint_url": "of the credentials"},
            },
            "credentials_provider": {
                "type": "AzureCredentials",
                "options": {"connection": ends.connection_string},
            },
        },
        "target": {
            "storage_provider": {"type": "s3", "options": target},
            "credentials_provider": {"type": "S3Credentials", "options": keys},
        },
    }
