"""Inventories: what a container or bucket holds, as its cloud or a person wrote it down.

`read_inventory` is the one door. Whatever it hands out has passed the checks that its format
allows; the rest is refused with InventoryError, which names the file and the line.
"""

from __future__ import annotations

from enum import StrEnum

from noria.manifests.inventory.azure import open_azure_inventory
from noria.manifests.inventory.files import LocalReportFiles, ReportFiles
from noria.manifests.inventory.key_list import open_key_list
from noria.manifests.inventory.report import InventoryReport, ReportSummary
from noria.manifests.inventory.s3 import open_s3_inventory

__all__ = [
    "InventoryKind",
    "InventoryReport",
    "LocalReportFiles",
    "ReportFiles",
    "ReportSummary",
    "read_inventory",
]


class InventoryKind(StrEnum):
    AZURE = "azure"
    """Azure Blob Inventory; the name is that of `RULE-manifest.json`."""
    S3 = "s3"
    """Amazon S3 Inventory; the name is that of `manifest.json`."""
    KEYS = "keys"
    """A text file with one whole key a line."""
    RELATIVE_KEYS = "relative_keys"
    """The same, of names below the prefix, as a job's failures.parquet has them."""


def read_inventory(
    kind: InventoryKind,
    files: ReportFiles,
    name: str,
    *,
    container: str,
    prefix: str = "",
    account: str | None = None,
) -> InventoryReport:
    """Open the inventory `name` of `container` (Azure) or bucket (S3).

    Only rows whose key begins with `prefix` are handed on. `account` is compared with the one that
    an Azure report is about; None compares nothing. The manifest, its checksum and the sizes of the
    data files are checked here; their rows while `batches` is read. Raises InventoryError.
    """
    match kind:
        case InventoryKind.AZURE:
            return open_azure_inventory(
                files, name, account=account, container=container, prefix=prefix
            )
        case InventoryKind.S3:
            return open_s3_inventory(files, name, bucket=container, prefix=prefix)
        case InventoryKind.KEYS:
            return open_key_list(files, name, prefix=prefix)
        case InventoryKind.RELATIVE_KEYS:
            return open_key_list(files, name, prefix=prefix, below=prefix)
