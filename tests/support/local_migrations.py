"""A migration between two local folders, with workers in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.engine import cutover, job, passes, rollback, verifying
from noria.engine.config.reading import job_config
from noria.engine.cutover import CutoverReport, CutoverTools, CutoverWishes
from noria.engine.job import RunReport
from noria.engine.passes import PassReport, PassWishes
from noria.engine.planning import Prepared, prepared
from noria.engine.rollback import RollbackReport
from noria.engine.verifying import VerifyReport
from noria.manifests.job.cutover_states import MigrationState, standing
from noria.manifests.job.directory import JobDirectory
from noria.manifests.job.history import Record, RecordKind, read
from noria.manifests.passes.migration import Migration
from tests.support.scripted_cluster import ScriptedCluster


def run_here(ready: Prepared) -> RunReport:
    """Run what was planned; the cluster is one worker of this process."""
    return job.run(ready.directory.root, cluster=ScriptedCluster(), planned=ready)


@dataclass(slots=True)
class LocalMigration:
    """A folder with `source`, `target` and the job directory `move`."""

    folder: Path
    said: list[str] = field(default_factory=list)
    """What was said to the person, line by line."""
    run: Callable[[Prepared], RunReport] = run_here

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def target(self) -> Path:
        return self.folder / "target"

    @property
    def root(self) -> Path:
        return self.folder / "move"

    @property
    def migration(self) -> Migration:
        return Migration(self.root)

    def copy(self, objects: Mapping[str, str], **sections: Mapping[str, Any]) -> None:
        """Write the source, and move it by a first pass."""
        for end in (self.source, self.target):
            end.mkdir(parents=True, exist_ok=True)
        write(self.source, objects)
        values = {
            "source": {"url": f"file://{self.source}"},
            "target": {"url": f"file://{self.target}"},
            "run": {"metrics_address": "off"},
            **sections,
        }
        with prepared(job_config(values, "a test"), self.root, self.said.append) as ready:
            self.run(ready)

    def sync(self, **wishes: Any) -> PassReport:
        return passes.run_pass(self.root, PassWishes(**wishes), self.run, self.said.append)

    def verify(self) -> VerifyReport:
        return verifying.verify(self.root, cluster=ScriptedCluster())

    def tools(self, **replaced: Any) -> CutoverTools:
        """What `noria cutover` does it with; nobody waits."""
        given = {
            "run_pass": lambda: self.sync(inventory="listing"),
            "verify": self.verify,
            "say": self.said.append,
            "wait": lambda seconds: None,
        }
        return CutoverTools(**(given | replaced))

    def cutover(self, tools: CutoverTools | None = None, **wishes: Any) -> CutoverReport:
        return cutover.cutover(self.root, CutoverWishes(**wishes), tools or self.tools())

    def switch(self) -> None:
        """All of a cutover, without a doubt."""
        ended = self.cutover(freeze_command="true", approve_as="Ann", switch_command="true")
        assert (ended.stopped, ended.state) == (None, MigrationState.GRACE)

    def rollback(self, **wishes: Any) -> RollbackReport:
        return rollback.rollback(self.migration, PassWishes(**wishes), self.run, self.said.append)

    @property
    def records(self) -> list[Record]:
        return read(JobDirectory(self.root))

    @property
    def kinds(self) -> list[RecordKind]:
        """Of its history, in order."""
        return [each.kind for each in self.records]

    @property
    def state(self) -> MigrationState:
        return standing(self.records).state

    @property
    def is_equal(self) -> bool:
        """Whether both ends hold the same names and bytes."""
        return held(self.source) == held(self.target)


def write(end: Path, objects: Mapping[str, str]) -> None:
    for key, text in objects.items():
        path = end / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def held(end: Path) -> dict[str, str]:
    """Key -> what is there."""
    return {
        each.relative_to(end).as_posix(): each.read_text()
        for each in sorted(end.rglob("*"))
        if each.is_file()
    }
