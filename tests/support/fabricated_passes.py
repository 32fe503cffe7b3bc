"""Passes of a migration whose source, receipts and listings a test makes up, and an oracle of them.

The oracle keeps dictionaries of Python, and knows nothing of ranges, blocks or columns.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from noria.manifests.job.directory import JobDirectory
from noria.manifests.manifest.reader import Manifest
from noria.manifests.model import Outcome
from noria.manifests.passes.delta import GONE_FILE, DeletionRules, PassDelta
from noria.manifests.passes.migration import Migration
from noria.manifests.plan.options import PlanOptions
from tests.support.fabricated_jobs import FabricatedJob
from tests.support.rows import Row, all_rows, freeze_rows, plan

Source = dict[str, Row]
"""Key -> what a listing says of it."""


@dataclass(slots=True)
class FabricatedMigration:
    """A migration in a folder, and what an oracle expects to stand."""

    root: Path
    options: PlanOptions = field(default_factory=partial(plan, shard_objects=7))
    rules: DeletionRules = field(default_factory=DeletionRules)
    number: int = 0
    crc64nvme: int | None = None
    """Of the objects whose receipts are made up."""
    stands: dict[str, Row] = field(default_factory=dict)
    """Key -> size, etag, version_id, modified, target_key, target_etag, pass, gone_since."""

    manifests: dict[int, Manifest] = field(default_factory=dict)
    """Number of a pass -> what was frozen."""

    @property
    def migration(self) -> Migration:
        return Migration(self.root)

    def plan(self, source: Source, **more: Any) -> Manifest:
        """Freeze the next pass over what the source has, in any order."""
        self.number += 1
        place = self.migration.place(self.number)
        if self.number > 1:
            before = self.migration.state(self.number - 1)
            more["compare"] = partial(PassDelta, before, self.rules)
        place.mkdir(parents=True, exist_ok=True)
        ends = {end: {"url": f"file:///{end}"} for end in ("source", "target")}
        JobDirectory.create(place, {"id": f"job-{self.number}", "config": ends})
        rows = random.Random(self.number).sample(list(source.values()), len(source))
        manifest = freeze_rows(place / "manifest", rows, self.options, **more)
        self.manifests[self.number] = manifest
        return manifest

    def settle(
        self, manifest: Manifest, failing: Mapping[str, str] = {}, crc64nvme: int | None = None
    ) -> None:
        """Give every entry its receipt: `failing` names those with another outcome than landing."""
        self.crc64nvme = crc64nvme
        place = self.migration.place(self.number)
        job = FabricatedJob(JobDirectory(place), manifest)
        for shard in manifest.shards():
            rows = manifest.read_shard(shard.shard).to_pylist()
            job.seal(shard.shard, [self._receipt(row, failing) for row in rows])
        gone = self.gone(manifest)
        for key, row in self.stands.items():
            row["gone_since"] = (row["gone_since"] or self.number) if key in gone else None

    def gone(self, manifest: Manifest) -> dict[str, Row]:
        """gone.parquet, by key."""
        path = manifest.directory / GONE_FILE
        if not path.exists():
            return {}
        return {row["key"]: row for row in pq.read_table(path).to_pylist()}

    def _receipt(self, row: Row, failing: Mapping[str, str]) -> Row:
        key, is_gone = row["key"], row.get("delta") == "gone"
        usual = Outcome.DELETED if is_gone else Outcome.TRANSFERRED
        if row["reason"] is not None:
            usual = Outcome.SKIPPED
        outcome = Outcome(failing.get(key, usual))
        receipt = {"key": key, "size": row["size"], "outcome": outcome.value}
        if outcome is Outcome.DELETED:
            del self.stands[key]
        if not outcome.landed:
            return {**receipt, "level": None, "target_etag": None, "cause": row["reason"]}
        target_etag = f"t-{key}-{self.number}"
        self.stands[key] = {
            "size": row["size"],
            "source_etag": row["etag"],
            "source_version": row["version_id"],
            "modified": row["last_modified"],
            "target_key": row["target_key"],
            "target_etag": target_etag,
            "written": outcome is Outcome.TRANSFERRED,
            "pass": self.number,
            "gone_since": None,
        }
        return {
            **receipt,
            "target_key": row["target_key"] or key,
            "source_etag": row["etag"],
            "source_version": row["version_id"],
            "target_etag": target_etag,
            "crc64nvme": self.crc64nvme,
        }

    def state_rows(self) -> dict[str, Row]:
        """The state after the last pass, as the oracle keeps it."""
        names = next(iter(self.stands.values()), {}).keys()
        return {
            row["key"]: {name: row[name] for name in names}
            for block in self.migration.state(self.number).blocks()
            for row in block.to_pylist()
        }


def planned(manifest: Manifest) -> dict[str, str | None]:
    """Key -> why a pass has it; None in a first one."""
    return {row["key"]: row.get("delta") for row in all_rows(manifest)}
