"""The fault matrix: what a cell is, where it plays, and the questions that each ends with.

A cell is one fault at one place, F1 to F66, played with real servers from a seed: which object,
which part, which byte, how often. `@cell("F22", "...")` makes one of a function that gets a Scene.
What it expects of its own it asserts; what must hold in every cell the scene asks at its end:

    I1   what is said to have moved is there, byte for byte as the generator made it
    I2   every entry of the manifest has one outcome, and one that did not move has its cause
    I4   no object is there that is not of this job
    I6   bytes sent beyond those of the objects are within what the faults that hit account for
    I7   no upload of this job is open that its journals do not know of
    I8   no secret lies in any file of the job, nor in what was printed
    I10  the source saw GET and HEAD alone
    I12  what Noria counts as sent is what the proxy before the target received, to the byte

Cells of later passes ask I14, I15 and I16 as well (pass_cells.py).
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.benchmarks.servers import Azurite, S3Server
from noria.benchmarks.servers.dataset import ObjectSpec, upload_azure
from noria.manifests.counters import Counter
from noria.manifests.model import Outcome, Receipt
from tests.support.fault_proxy.proxy import FaultProxy, run_fault_proxy
from tests.support.fault_proxy.rules import Operation
from tests.support.faulty import SMALL, Case, case_ends, faulty_case
from tests.support.lease_jobs import BucketShelf, azure_container
from tests.support.moves import SEED, Move

PART = 5 << 20
"""Of S3: the smallest there is."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """What a cell, or a campaign of them, has shown."""

    faults: int = 0
    """Requests that met an action of a proxy, processes that were ended or stopped, edits."""
    moved_bytes: int = 0
    """As received by the proxies before the targets."""
    invariants: int = 0
    """Questions that were asked, and answered as they must be."""

    def add(self, other: Evidence) -> None:
        self.faults += other.faults
        self.moved_bytes += other.moved_bytes
        self.invariants += other.invariants


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    number: str
    title: str
    play: Callable[[Scene], None]
    whole: bool
    """True where it runs the real command: seconds rather than tenths of one."""

    @property
    def name(self) -> str:
        return f"{self.number} {self.title}"


CELLS: list[Cell] = []
"""Every cell, once the modules that hold them are imported."""


def cell(
    number: str, title: str, *, whole: bool = False
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    def enter(play: Callable[[Scene], None]) -> Callable[[Scene], None]:
        CELLS.append(Cell(number=number, title=title, play=play, whole=whole))
        return play

    return enter


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The servers that all cells share."""

    azurite: Azurite
    seaweedfs: S3Server
    shelf: BucketShelf

    @contextlib.contextmanager
    def scene(self, seed: int, folder: Path) -> Iterator[Scene]:
        """Where one cell plays; its proxies, containers and buckets go with the block."""
        with contextlib.ExitStack() as stack:
            yield Scene(stage=self, seed=seed, folder=folder, stack=stack)

    def play(self, one: Cell, seed: int, folder: Path) -> Evidence:
        with self.scene(seed, folder) as scene:
            one.play(scene)
            return scene.evidence


@dataclass(slots=True, kw_only=True)
class Scene:
    stage: Stage
    seed: int
    folder: Path
    stack: contextlib.ExitStack
    evidence: Evidence = field(default_factory=Evidence)
    dice: random.Random = field(init=False)
    _jobs: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    # -- one lease at work -------------------------------------------------------------------------

    def case(
        self, way: str = "azure-s3", sizes: dict[str, int] | None = None, **options: Any
    ) -> Case:
        """A lease between two proxies.

        Without sizes: small objects and one of two parts or three, of drawn sizes.
        """
        ends = case_ends(way, self.stage.shelf, self.stage.azurite, self.stack)
        sizes = sizes or self.drawn_sizes(ends[1].part_bytes)
        self._jobs += 1
        folder = self.folder / f"job-{self._jobs}"
        return self.stack.enter_context(faulty_case(folder, *ends, sizes, **options))

    def drawn_sizes(self, part_bytes: int) -> dict[str, int]:
        small = {f"small-{n}": self.dice.randrange(1, SMALL) for n in range(4)}
        return {
            **small,
            "large": self.dice.randint(1, 2) * part_bytes + self.dice.randrange(1, SMALL),
        }

    def finish(
        self,
        case: Case,
        *,
        exact: bool = True,
        vouched: bool = True,
        streams: int = 4,
        opening_may_be_lost: bool = False,
    ) -> dict[str, Receipt]:
        """Run the lease to its end and ask what must hold in every cell.

        Not `exact`: a fault keeps bytes from the proxy, or hides from us that they arrived. Not
        `vouched`: bits were flipped where nobody can see it, and no level may say otherwise.
        """
        receipts = case.job.receipts(case.run(streams=streams))
        self.request(
            case, receipts, exact=exact, vouched=vouched, opening_may_be_lost=opening_may_be_lost
        )
        return receipts

    def request(
        self,
        case: Case,
        receipts: dict[str, Receipt],
        *,
        exact: bool = True,
        vouched: bool = True,
        opening_may_be_lost: bool = False,
    ) -> None:
        faults = _hits(case.source) + _hits(case.target)
        assert receipts.keys() == case.job.sizes.keys(), "I2: every entry has one outcome"
        for key, receipt in receipts.items():
            if receipt.outcome is Outcome.TRANSFERRED:
                held, arrived = case.job.source_bytes(key), case.job.target_bytes(key)
                if vouched or receipt.level not in ("ingested", "counted"):
                    assert arrived == held, f"I1: {key} is said to be {receipt.level}"
            else:
                assert receipt.cause, f"I2: {key} is {receipt.outcome} for no reason"
        moved = {f"to/{k}" for k, r in receipts.items() if r.outcome is Outcome.TRANSFERRED}
        assert moved <= set(case.job.target.listed()), "I2: it is there"
        sent, total = case.target.written_bytes(), sum(case.job.sizes.values())
        # At the worst a fault costs an upload with all that is in it.
        worst = (faults + self.evidence.faults) * max(case.job.sizes.values())
        assert sent <= total + worst, "I6: bounded waste"
        if not opening_may_be_lost:
            assert case.job.target.open_uploads() == [], "I7: no upload is left open"
        self.ask_for_secrets(case.job.directory.root)
        assert case.source.methods() <= {"GET", "HEAD"}, "I10: the source is only read"
        if exact:
            assert case.counters.total(Counter.BYTES_WRITTEN) == sent, "I12: as the proxy counts"
        self.evidence.faults += faults
        self.evidence.moved_bytes += sent
        self.evidence.invariants += 6 + exact + (not opening_may_be_lost)

    def ask_for_secrets(self, root: Path, *texts: str) -> None:
        secrets = [self.stage.azurite.key, self.stage.seaweedfs.secret_key]
        files = {
            str(path): path.read_bytes().decode("latin-1")
            for path in root.rglob("*")
            if path.is_file()
        }
        for name, text in {**files, **{f"text {n}": text for n, text in enumerate(texts)}}.items():
            assert not any(secret in text for secret in secrets), f"I8: a secret lies in {name}"

    # -- the real command --------------------------------------------------------------------------

    def move(self, specs: list[ObjectSpec], **sections: Any) -> ProxiedMove:
        """A filled container, an empty bucket, both behind proxies; a job file with `sections`."""
        container = self.stack.enter_context(azure_container(self.stage.azurite)).client
        bucket = self.stack.enter_context(self.stage.shelf.take())
        source = self.stack.enter_context(run_fault_proxy(self.stage.azurite.endpoint))
        target = self.stack.enter_context(run_fault_proxy(self.stage.seaweedfs.endpoint))
        azurite = self.stage.azurite
        upload_azure(specs, azurite.connection_string, container.container_name, SEED)
        environment = {
            **_plain_environment(),
            **azurite.env(),
            **self.stage.seaweedfs.env(),
            "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string.replace(
                azurite.endpoint, source.endpoint
            ),
            "AWS_ENDPOINT_URL_S3": target.endpoint,
        }
        self._jobs += 1
        move = Move(
            azurite=azurite,
            seaweedfs=self.stage.seaweedfs,
            container=container.container_name,
            bucket=bucket.name,
            job=self.folder / f"job-{self._jobs}",
            environment=environment,
            specs=specs,
        )
        move.job_file(**sections)
        return ProxiedMove(scene=self, move=move, source=source, target=target)


@dataclass(slots=True, kw_only=True)
class ProxiedMove:
    """A whole move behind two proxies."""

    scene: Scene
    move: Move
    source: FaultProxy
    target: FaultProxy
    printed: list[str] = field(default_factory=list)

    @property
    def job_file(self) -> Path:
        return self.move.job.with_suffix(".toml")

    def run(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        return self.move.noria("run", self.job_file, *arguments, exit_code=exit_code)

    def expect_all(self, done: dict[str, Any], *, kills: int = 0, exact: bool = False) -> None:
        """Everything moved, and what must hold in every cell holds."""
        assert done["outcomes"] == {"TRANSFERRED": len(self.move.specs)}, "I2"
        assert done["reconciled"] is True, "I2"
        self.move.noria("clean", self.move.job, "--unclaimed")
        self.move.expect_all_arrived()  # I1, I4, I7
        self.scene.ask_for_secrets(self.move.job, *self.printed)
        assert self.source.methods() <= {"GET", "HEAD"}, "I10"
        evidence = self.scene.evidence
        if exact:
            assert done["bytes_moved"] == self.moved_bytes(), "I12"
        evidence.faults += kills + _hits(self.source) + _hits(self.target)
        evidence.moved_bytes += self.moved_bytes()
        evidence.invariants += 6 + exact

    def moved_bytes(self) -> int:
        """Bodies of this job's objects and parts, canaries of the probe left out."""
        keys = {f"/{self.move.bucket}/{spec.key}" for spec in self.move.specs}
        return sum(
            exchange.request_bytes
            for exchange in self.target.seen(Operation.PUT, Operation.PART)
            if exchange.request.path in keys
        )


def _hits(proxy: FaultProxy) -> int:
    return sum(exchange.fault is not None for exchange in proxy.log)


def _plain_environment() -> dict[str, str]:
    own = ("AWS_", "AZURE_", "NORIA_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}
