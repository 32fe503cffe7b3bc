"""Where one scenario plays: a job on the bed's hosts, what happens to them, and the questions.

    scene.begin()                        # both workers are at work
    with scene.during(CutOff(A)):
        scene.hurry(B)
        scene.expect_done()              # B ends the job while A is away
    scene.ask()

A seed decides what is drawn: sizes, moments, lengths of time.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noria.benchmarks.servers.dataset import ObjectSpec, upload_azure
from tests.hosts.bed import HEAD, WORKER_HOSTS, HostBed
from tests.hosts.host_faults import Frozen, HostFault
from tests.hosts.oracle import Oracle, SilentTime
from tests.support.moves import NORIA, SEED, Move, plain
from tests.support.processes import wait_until

MIB = 1024 * 1024
RATE = 2e6
"""Bytes a second of a worker's host at each store: a job lasts long enough to be disturbed."""
TIMEOUT_SECONDS = 10.0
RUN_SECONDS = 150.0
AT_WORK_SECONDS = 90.0
REFUSED_SECONDS = 60.0
"""How long a driver may be refused since another one lives, or seems to."""
ANOTHER_DRIVER = 2
"""Exit code."""


class HostRun:
    """One `noria run` on a host."""

    def __init__(self, bed: HostBed, host: str, job_file: Path, folder: Path) -> None:
        self.began = time.monotonic()
        self.ended: float | None = None
        """When the command ended; None: it runs."""
        name = uuid.uuid4().hex[:8]
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        words = (NORIA, "run", job_file, "--address", bed.ray_address, "--json")
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = bed.popen(host, words, stdout=out, stderr=err)
        self._watch = threading.Thread(target=self._wait, name="watch", daemon=True)
        self._watch.start()

    def _wait(self) -> None:
        self._process.wait()
        self.ended = time.monotonic()

    def wait(self, seconds: float = RUN_SECONDS) -> int:
        """Its exit code."""
        self._watch.join(seconds)
        assert self.ended is not None, f"the run does not end\n{self.printed()}"
        return self._process.returncode

    def is_over(self) -> bool:
        return self.ended is not None

    def report(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self._out.read_text())
        return document

    def printed(self) -> str:
        return self._out.read_text()[-3000:] + self._err.read_text()[-3000:]

    def kill(self) -> None:
        if self.ended is None:
            self._process.kill()
        self._watch.join()


@dataclass(slots=True, kw_only=True)
class HostScene:
    bed: HostBed
    folder: Path
    seed: int
    later_seconds: float
    """How long after the end of the job the target is looked at again."""
    dice: random.Random = field(init=False)
    timeout: float = TIMEOUT_SECONDS
    faults: int = 0
    questions: int = 0
    move: Move = field(init=False)
    _run: HostRun = field(init=False)
    _oracle: Oracle = field(init=False)
    _began: float = 0.0
    _silences: list[SilentTime] = field(default_factory=list)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def __enter__(self) -> HostScene:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def moved_bytes(self) -> int:
        target, addresses = self.bed.fronts.target, self.bed.network.addresses
        return sum(
            target.written_bytes(addresses[host], since=self._began) for host in WORKER_HOSTS
        )

    # -- the job -----------------------------------------------------------------------------------

    def begin(self, *, driver: str = HEAD, at_work: bool = True, **run: Any) -> None:
        """Start a job. `at_work`: return once both workers have sent something."""
        self.prepare(driver=driver, **run)
        self.start(driver)
        if at_work:
            self.wait_for_bytes(*WORKER_HOSTS)

    def prepare(self, *, driver: str = HEAD, **run: Any) -> None:
        """A filled container, an empty bucket, a job file; and a cluster that is whole."""
        bed = self.bed
        bed.ready(*({driver} - {HEAD}))
        name = f"hosts-{uuid.uuid4().hex[:12]}"
        specs = self._drawn_specs()
        upload_azure(specs, bed.azurite.connection_string, name, SEED)
        client = self._stack.enter_context(contextlib.closing(bed.seaweedfs.client()))
        client.create_bucket(Bucket=name)
        self._stack.callback(client.delete_bucket, Bucket=name)
        self._stack.callback(self._drop_container, name)
        self.move = Move(
            azurite=bed.azurite,
            seaweedfs=bed.seaweedfs,
            container=name,
            bucket=name,
            job=self.folder / "shared" / "job",
            environment={},
            specs=specs,
        )
        self.move.job.parent.mkdir(parents=True)
        self.move.job_file(
            source={"allow_plain_http": True},
            target={"allow_plain_http": True},
            plan={"part_bytes": 8 * MIB},
            run={
                "workers": len(WORKER_HOSTS),
                "streams": 4,
                "heartbeat_timeout_seconds": self.timeout,
                **run,
            },
        )
        for host in WORKER_HOSTS:
            bed.fronts.slow_down(bed.network.addresses[host], RATE)
        self._oracle = Oracle(
            client=client,
            bucket=name,
            job=self.move.job,
            specs=specs,
            seed=SEED,
            fronts=bed.fronts,
        )

    def start(self, driver: str = HEAD) -> None:
        """Run the job, again if it has run before."""
        self._began = self._began or time.monotonic()
        job_file = self.move.job.with_suffix(".toml")
        self._run = HostRun(self.bed, driver, job_file, self.folder)
        self._stack.callback(self._run.kill)

    def kill_driver(self) -> None:
        self.faults += 1
        self._run.kill()

    def _drawn_specs(self) -> list[ObjectSpec]:
        large = (plain(f"large/{n}", self.dice.randint(20, 28) * MIB + n) for n in range(2))
        medium = (plain(f"medium/{n}", self.dice.randint(1, 3) * MIB) for n in range(4))
        small = (plain(f"small/{n:03}", self.dice.randint(1, 9_000)) for n in range(120))
        return [*large, *medium, *small]

    def _drop_container(self, name: str) -> None:
        with self.bed.azurite.client() as service:
            service.delete_container(name)

    def wait_for_bytes(self, *hosts: str, least: int = 1 * MIB) -> None:
        """Until each of the hosts has sent so much of this job to the target."""
        target, addresses = self.bed.fronts.target, self.bed.network.addresses

        def sent() -> bool:
            assert not self._run.is_over(), f"it is over already\n{self._run.printed()}"
            return all(
                target.written_bytes(addresses[host], since=self._run.began) > least
                for host in hosts
            )

        wait_until(sent, f"{hosts} at work", seconds=AT_WORK_SECONDS)

    def has_upload(self, host: str) -> bool:
        """Whether this host has begun a multipart upload of this job."""
        return self._oracle.has_upload(self.bed.network.addresses[host])

    def hurry(self, *hosts: str) -> None:
        """Nothing slows these hosts any more; without any, none."""
        for host in hosts or WORKER_HOSTS:
            self.bed.fronts.slow_down(self.bed.network.addresses[host], None)

    def wait(self, seconds: float) -> None:
        """A fault has to last."""
        time.sleep(seconds)

    # -- what happens ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def during(self, *faults: HostFault) -> Iterator[None]:
        """They last as long as the block."""
        begun = [self.start_fault(fault) for fault in faults]
        try:
            yield
        finally:
            for fault, moment in reversed(list(zip(faults, begun, strict=True))):
                self.end_fault(fault, moment)

    def start_fault(self, fault: HostFault) -> float:
        """When it began, by the monotonic clock."""
        self.faults += 1
        self.bed.suspect(*fault.harmed)
        fault.begin(self.bed)
        return time.monotonic()

    def end_fault(self, fault: HostFault, begun: float) -> None:
        # A driver that was started meanwhile has workers of its own on these hosts.
        again = self._run.began
        ended = again if again > begun else time.monotonic()
        fault.end(self.bed)
        self._silences += [
            SilentTime(
                address=self.bed.network.addresses[host],
                begun=begun,
                ended=ended,
                still=isinstance(fault, Frozen),
            )
            for host in fault.silenced
        ]

    # -- the questions -----------------------------------------------------------------------------

    def expect_done(self) -> None:
        """The run ends, all has moved, and the target holds what it must."""
        code = self._run.wait()
        assert code == 0, f"exit {code}\n{self._run.printed()}"
        self._oracle.ask_at_end(self._run.report())

    def expect_stopped(self, *words: str) -> str:
        """The run stops with exit code 3 and a line that holds these words; what it printed."""
        code, printed = self._run.wait(), self._run.printed()
        assert code == 3, f"exit {code}\n{printed}"
        missing = [word for word in words if word not in printed]
        assert not missing, f"{missing} are not said\n{printed}"
        self._oracle.ask_at_end(self._run.report(), complete=False)
        return printed

    def expect_done_at_last(self, tries: int) -> None:
        """The run ends, and all has moved; it may stop, and be run again, `tries` times."""
        while tries and self._run.wait() == 3:
            self._oracle.ask_at_end(self._run.report(), complete=False)
            self.run_again()
            tries -= 1
        self.expect_done()

    def run_again(self, driver: str = HEAD) -> None:
        """Start a driver, once none is heard of any more."""
        until = time.monotonic() + REFUSED_SECONDS
        while True:
            self.start(driver)
            refused = self._wait_for_refusal()
            if not refused or time.monotonic() > until:
                return

    def _wait_for_refusal(self) -> bool:
        """Whether the run ends at once since another driver lives."""
        status = self.move.job / "status.json"
        before = status.stat().st_mtime_ns if status.exists() else 0
        wait_until(
            lambda: self._run.is_over() or status.stat().st_mtime_ns > before,
            "a driver, or its refusal",
            seconds=RUN_SECONDS,
        )
        return self._run.is_over() and self._run.wait() == ANOTHER_DRIVER

    def expect_nothing_open(self) -> None:
        """No upload is left, of those either that only a worker knew which was not seen to die."""
        self._oracle.ask_for_no_uploads()
        self.questions = self._oracle.questions

    def expect_no_turns(self, first: str, second: str) -> None:
        """What the second host has begun to write, the first one leaves alone."""
        addresses = self.bed.network.addresses
        self._oracle.ask_of_turns(addresses[first], addresses[second])

    def ask(self) -> None:
        """What must hold once all faults are over, and some time after the end of the job."""
        assert self._run.ended is not None, "the job has ended"
        self._oracle.ask_later(self._run.ended, self.later_seconds)
        self._oracle.ask_of_silence(self._silences, self.timeout)
        self.questions = self._oracle.questions
