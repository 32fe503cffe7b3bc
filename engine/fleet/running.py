"""One run of many datasets: some of them at work at a time, on workers that all of them share.

Each dataset has a thread that plans it, drives it and reconciles it, as `noria run` and `noria
sync` do for one. What concerns all is here: who is next, what is shown, when it ends. A dataset
that cannot go on ends alone, and is noted; the others do not hear of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from noria.engine import job
from noria.engine.config.datasets import DatasetConfig
from noria.engine.config.jobfile import RunConfig
from noria.engine.driver import StopRequest, calling_on_signals
from noria.engine.fleet.directory import FleetDirectory
from noria.engine.fleet.own_pauses import OwnPauses
from noria.engine.fleet.pool import WorkerPool
from noria.engine.fleet.pooled_cluster import PooledCluster
from noria.engine.fleet.priorities import LivePriorities
from noria.engine.fleet.rows import DatasetRow, dataset_row
from noria.engine.fleet.steering import FleetSteering
from noria.engine.fleet.sums import added, at_its_end, figures_of, whole
from noria.engine.job import RunReport
from noria.engine.known_targets import ProbedTargets
from noria.engine.log_file import DATASET_THREAD
from noria.engine.passes import PassWishes, current_pass, run_pass
from noria.engine.planning import Prepared, prepared
from noria.engine.status import (
    DATASET_PAUSED,
    DatasetFigures,
    JobStatus,
    Phase,
    load_status,
    save_status,
)
from noria.manifests.errors import NoriaError, StopAsked, unusable_path
from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes.migration import Migration

log = logging.getLogger("noria.fleet")

AT_WORK: Final = 2
"""Datasets at work for each worker: while one is moved, another is planned or reconciled."""
AT_WORK_MORE: Final = 2
AT_WORK_MOST: Final = 64
"""Each holds a manifest's outline, two stores and some threads: about 10 MB."""
PAUSED_MOST: Final = 64
"""Datasets at work that are paused: so many more are begun for them. Those whose turn has not come
are not begun while they are paused, and count for nothing."""
TICK_SECONDS: Final = 1.0
FOREVER_SECONDS: Final = 1e9
"""A dataset waits for its turn, however long that takes."""
END_SECONDS: Final = 15.0
"""After a drain, how long datasets may take that are planned or reconciled; then they are left."""

Show = Callable[[JobStatus], None]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetReport:
    """How a run of many datasets ended. The fields of `--json`."""

    fleet: str
    """The directory."""
    datasets: int
    well: int
    """Their latest pass has ended, and nobody has to look."""
    unwell: int
    """With failures, damage or differences."""
    refused: Mapping[str, str]
    """Name -> why it was not planned, or did not go on."""
    unended: int
    """Not at their end: another run goes on with them."""
    untouched: int
    """Of those that are well, those that were so before."""
    objects: int
    bytes: int
    bytes_moved: int
    """In this run."""
    seconds: float
    is_stopped: bool
    """On request."""
    stopped: str | None = None
    """By whom, if that was asked for by `noria drain`."""

    @property
    def exit_code(self) -> int:
        if self.is_stopped:
            return 3
        return 0 if self.well == self.datasets else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetWork:
    """What a run does with each dataset."""

    run: RunConfig
    """[run] of all: the budgets and the workers of the whole run."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Of [run], for each dataset."""
    pass_wishes: PassWishes | None = None
    """None: each is run to the end of its latest pass; otherwise another pass follows."""
    plan_only: bool = False
    is_named: bool = False
    """A job file of this command names all ends, not the directory alone."""
    show_keys: bool = False


class FleetRun:
    """Works on datasets, until all are at their end or it is stopped. Use once."""

    def __init__(
        self,
        fleet: FleetDirectory,
        datasets: Sequence[DatasetConfig],
        work: FleetWork,
        *,
        workers: int,
        show: Show,
        say: Say,
    ) -> None:
        """`datasets` in the order in which they were noted.

        `workers`: as many as there are, unless people say another number. Raises
        JobDirectoryError if what was asked for is damaged.
        """
        self._fleet = fleet
        self._datasets = datasets
        self._work = work
        self._workers = workers
        self._show = show
        self._say = say
        self._stop = StopRequest()
        self._lock = threading.Lock()
        self._places = {each.name: place for place, each in enumerate(datasets)}
        self._steering = FleetSteering(fleet, work.run, is_named=work.is_named)
        self._priorities = LivePriorities(
            {each.name: each.priority for each in datasets}, self._steering.records
        )
        self._pauses = OwnPauses(fleet)
        self._at_work: set[str] = set()
        self._aside: deque[DatasetConfig] = deque()
        """Datasets whose turn had come, and which are paused."""
        self._paused: set[str] = set()
        """Of both, those that are paused while others go on."""
        self._asked_to_drain = False
        self._waiting = self._in_order(datasets)
        self._running: dict[str, JobStatus] = {}
        self._figures: dict[str, DatasetFigures] = {}
        self._ended = JobStatus(job="", phase=Phase.FINISHED, updated_seconds=0.0)
        """The sum of those that are at their end."""
        self._earlier: dict[str, JobStatus] = {}
        """Of those whose turn has not come, what an earlier run did: of few, if it was killed."""
        self._rows: dict[str, DatasetRow] = {}
        self._untouched = 0
        self._bytes_before = 0
        self._pool = WorkerPool(self._wanted_workers)
        self._most_at_work = self._datasets_at_work()
        self._began = time.monotonic()
        self._refused: dict[str, str] = {}
        self._probed = ProbedTargets()

    @property
    def _wanted_workers(self) -> int:
        return self._steering.limits.number("workers") or self._workers

    def _datasets_at_work(self, paused: int = 0) -> int:
        """How many have a thread; those that are paused count beside it."""
        return min(AT_WORK * self._wanted_workers + AT_WORK_MORE, AT_WORK_MOST) + min(
            paused, PAUSED_MOST
        )

    def run(self) -> FleetReport:
        """Block until all are at their end, or stopped. Raises AnotherDriver, JobDirectoryError."""
        with self._fleet.files.hold(), calling_on_signals(self._stop.ask):
            self._look_at_all()
            try:
                self._watch()
            finally:
                self._pool.close()
                self._steering.close()
                self._probed.connections.close()
            return self._report()

    # -- the main thread ---------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        """What is known of each; those that have nothing to do are passed over."""
        refusals = self._fleet.refusals()
        for each in self._datasets:
            row = dataset_row(self._fleet, each.name, refusals)
            row = replace(row, priority=self._priorities.of(each.name))
            self._rows[each.name], self._figures[each.name] = row, row.figures
        todo = deque(each for each in self._waiting if self._has_work(self._rows[each.name]))
        self._untouched = len(self._waiting) - len(todo)
        self._waiting = todo
        new = {each.name for each in todo}
        for row in self._rows.values():
            follows = self._work.pass_wishes is not None and row.phase == Phase.FINISHED
            if not row.passes or follows or self._work.plan_only:
                continue  # what comes now is counted from the start
            status = load_status(JobDirectory(current_pass(self._fleet.place(row.name))))
            if status is not None and row.name in new:
                self._earlier[row.name] = at_its_end(status)
            elif status is not None:
                self._ended = added(self._ended, at_its_end(status))
        self._bytes_before = self._whole(Phase.MOVING).bytes_moved

    def _has_work(self, row: DatasetRow) -> bool:
        if self._work.plan_only:
            return row.passes == 0 or row.phase == Phase.PLANNING or not row.objects
        if self._work.pass_wishes is not None:
            return not row.is_at_cutover  # another pass would make its proof void
        return not row.is_well

    def _watch(self) -> None:
        """Have datasets worked on, and show how far all are, until all have ended."""
        threads: list[threading.Thread] = []
        left_by: float | None = None
        while True:
            threads = self._with_more([each for each in threads if each.is_alive()])
            if not threads and not self._is_left:
                break
            if threads:
                threads[0].join(TICK_SECONDS)
            else:
                time.sleep(TICK_SECONDS)  # all that is left is paused
            self._follow_settings()
            self._tell()
            if not self._stop.times:
                continue
            drain = self._work.run.drain_seconds if self._stop.times == 1 else 0.0
            now = time.monotonic()
            left_by = left_by or now + drain + END_SECONDS
            if now > left_by or self._stop.times > 2:
                return
        self._tell()

    def _in_order(self, datasets: Iterable[DatasetConfig]) -> deque[DatasetConfig]:
        """Those of a higher priority first, then in the order in which they were noted."""

        def rank(each: DatasetConfig) -> tuple[int, int]:
            return -self._priorities.of(each.name), self._places[each.name]

        return deque(sorted(datasets, key=rank))

    @property
    def _is_left(self) -> bool:
        """Datasets wait that may still be worked on."""
        return not self._stop.times and bool(self._waiting or self._aside)

    def _with_more(self, threads: list[threading.Thread]) -> list[threading.Thread]:
        """The threads, and those that work on datasets whose turn has come."""
        if self._stop.times or self._steering.limits.paused:
            return threads
        with self._lock:
            more = min(len(self._waiting), self._most_at_work - len(self._at_work))
        for _ in range(more):
            threads.append(threading.Thread(target=self._go_on, name="datasets", daemon=True))
            threads[-1].start()
        return threads

    def _follow_settings(self) -> None:
        """What people have asked since the last look, and what windows and guards say."""
        self._steering.look(time.monotonic(), quiet=self._pool.is_idle)
        if self._steering.drain is not None and not self._asked_to_drain:
            self._asked_to_drain = True
            self._stop.ask()
        if self._wanted_workers != self._pool.workers:
            self._pool.resize(self._wanted_workers)
        self._follow_pauses()
        self._follow_priorities()

    def _follow_pauses(self) -> None:
        """Those that are paused leave their turn to others; those that are not get it again."""
        with self._lock:
            at_work = list(self._at_work)
        paused = {name for name in at_work if self._pauses.of(name) is not None}
        back = []
        # Each is looked at within five seconds, however many there are.
        for _ in range(-(-len(self._aside) // 5)):
            dataset = self._aside.popleft()
            if self._pauses.of(dataset.name) is None:
                back.append(dataset)
            else:
                self._aside.append(dataset)
        with self._lock:
            self._most_at_work = self._datasets_at_work(len(paused))
            self._paused = paused | {each.name for each in self._aside}
            if back:
                self._waiting = self._in_order([*self._waiting, *back])

    def _follow_priorities(self) -> None:
        """What people have set since the last look: who waits comes up, workers go over."""
        changed = self._priorities.follow(self._steering.records)
        with self._lock:
            for name, priority in changed.items():
                if name in self._figures:
                    self._figures[name] = replace(self._figures[name], priority=priority)
            if changed:
                self._waiting = self._in_order(self._waiting)
        for name, priority in changed.items():
            self._pool.prioritize(name, priority)

    def _tell(self) -> None:
        status = self._status()
        save_status(self._fleet.files, status)
        try:
            self._show(status)
        except StopAsked:
            self._stop.ask()

    def _status(self) -> JobStatus:
        phase = Phase.DRAINING if self._stop.times else Phase.MOVING
        status = self._whole(Phase.PLANNING if self._work.plan_only else phase)
        return self._steering.told_in(status)

    def _whole(self, phase: Phase) -> JobStatus:
        """The status of all, added up."""
        with self._lock:
            parts, ended = [*self._running.values(), *self._earlier.values()], self._ended
            figures = self._figures | {
                name: replace(self._figures[name], phase=DATASET_PAUSED) for name in self._paused
            }
        seconds = time.monotonic() - self._began
        status = whole(self._fleet.root.name, parts, ended, phase=phase, run_seconds=seconds)
        return replace(status, datasets=figures)

    def _report(self) -> FleetReport:
        last = self._whole(Phase.STOPPED if self._stop.times else Phase.FINISHED)
        last = replace(last, workers=0, eta_seconds=None, in_force=self._steering.limits)
        save_status(self._fleet.files, last)
        self._show(last)
        with self._lock:
            rows = list(self._rows.values())
        refused = {row.name: row.message or "" for row in rows if row.name in self._refused}
        well = sum(row.is_well for row in rows)
        unwell = sum(row.phase == Phase.FINISHED and not row.is_well for row in rows)
        return FleetReport(
            fleet=str(self._fleet.root),
            datasets=len(rows),
            well=well,
            unwell=unwell,
            refused=refused,
            unended=len(rows) - well - unwell - len(refused),
            untouched=self._untouched,
            objects=sum(row.objects for row in rows),
            bytes=sum(row.bytes for row in rows),
            bytes_moved=max(0, last.bytes_moved - self._bytes_before),
            seconds=round(time.monotonic() - self._began, 3),
            is_stopped=bool(self._stop.times),
            stopped=self._steering.drained,
        )

    # -- a thread of one dataset after the other ---------------------------------------------------

    def _go_on(self) -> None:
        while (dataset := self._take()) is not None:
            threading.current_thread().name = DATASET_THREAD + dataset.name
            self._settle(dataset)

    def _take(self) -> DatasetConfig | None:
        """The dataset whose turn it is; None: nobody's, or enough others are at work."""
        with self._lock:
            if self._stop.times or self._steering.limits.paused:
                return None
            while self._waiting and len(self._at_work) < self._most_at_work:
                dataset = self._waiting.popleft()
                if self._pauses.of(dataset.name) is None:
                    self._at_work.add(dataset.name)
                    return dataset
                self._aside.append(dataset)
            return None

    def _settle(self, dataset: DatasetConfig) -> None:
        """Work on one dataset to its end, whatever that is."""
        name = dataset.name
        try:
            ended = self._bring_on(dataset)
            if ended is None or ended.complete:
                self._fleet.accept(name)
            elif not self._stop.times:
                self._refuse(name, ended.stopped or "it did not come to its end", "stopped")
        except StopAsked:
            log.info("stopped on request")
        except (NoriaError, OSError) as error:
            known = unusable_path(error) if isinstance(error, OSError) else error
            # Whoever is told to end all may end in any way.
            if not self._stop.times:
                self._refuse(name, known.message, known.cause)
        except Exception as error:
            log.exception("unexpected")
            what = f"an unexpected {type(error).__name__}: see the log; run it again to resume"
            self._refuse(name, what, "internal")
        finally:
            self._note_end(name)

    def _refuse(self, name: str, message: str, cause: str) -> None:
        log.warning("%s", message)
        self._refused[name] = message
        self._fleet.refuse(name, message, cause)

    def _note_end(self, name: str) -> None:
        refusals = self._fleet.refusals() if name in self._refused else {}
        row = dataset_row(self._fleet, name, refusals)
        row = replace(row, priority=self._priorities.of(name))
        self._pauses.forget(name)
        with self._lock:
            self._at_work.discard(name)
            last = self._running.pop(name, None)
            self._rows[name], self._figures[name] = row, row.figures
            if last is not None:
                self._ended = added(self._ended, at_its_end(last))

    def _bring_on(self, dataset: DatasetConfig) -> RunReport | None:
        """Plan a dataset, and run it; None: it was to be planned alone."""
        place = self._fleet.place(dataset.name)
        teller = _Teller(self, dataset.name)
        is_there = JobDirectory.exists(place)
        if not is_there and not self._work.is_named:
            self._fleet.check_trust(dataset)
        if self._work.plan_only:
            with prepared(
                dataset.config, place, teller.say, probed=self._probed, of_all=self._steering
            ):
                return None
        with PooledCluster(
            dataset.name,
            self._pool,
            self._steering.budgets,
            priority=self._priorities.of(dataset.name),
            weight=dataset.weight,
        ) as cluster:
            if is_there and self._work.pass_wishes is not None:
                run = partial(self._run_planned, cluster, teller)
                return run_pass(
                    *(place, self._work.pass_wishes, run, teller.say),
                    probed=self._probed,
                    of_all=self._steering,
                ).run
            if is_there and not self._work.is_named:
                return self._run_at(current_pass(place), None, cluster, teller)
            with prepared(
                dataset.config, place, teller.say, probed=self._probed, of_all=self._steering
            ) as ready:
                planned = ready if Migration(place).last == 1 else None  # or others followed
                return self._run_at(current_pass(place), planned, cluster, teller)

    def _run_planned(self, cluster: PooledCluster, teller: _Teller, ready: Prepared) -> RunReport:
        return self._run_at(ready.directory.root, ready, cluster, teller)

    def _run_at(
        self, place: Path, planned: Prepared | None, cluster: PooledCluster, teller: _Teller
    ) -> RunReport:
        """Run the job at a place to its end."""
        with self._lock:
            # What an earlier run did is told by the job itself from now on.
            nothing = JobStatus(job="", phase=Phase.STARTING, updated_seconds=time.time())
            self._running[teller.name] = self._earlier.pop(teller.name, nothing)
        return job.run(
            place,
            cluster=cluster,
            overrides={**self._work.overrides, **_OF_THE_WHOLE_RUN},
            show=teller.show,
            show_keys=self._work.show_keys,
            planned=planned,
            of_all=self._steering,
        )

    def note(self, name: str, status: JobStatus) -> None:
        """A dataset's driver shows how far it is."""
        with self._lock:
            self._running[name] = status
            self._figures[name] = figures_of(status, self._figures[name])

    @property
    def stops(self) -> int:
        """How often an end was asked for."""
        return self._stop.times


class _Teller:
    """What one dataset shows; whoever shows something is told if it shall end."""

    def __init__(self, run: FleetRun, name: str) -> None:
        self.name = name
        self._run = run
        self._heard = 0

    def show(self, status: JobStatus) -> None:
        """Raises StopAsked, once for each time that an end was asked for."""
        self._run.note(self.name, status)
        self._look()

    def say(self, line: str) -> None:
        """A line of a plan, which is for the log. Raises StopAsked."""
        log.info("%s", line)
        self._look()

    def _look(self) -> None:
        if self._run.stops > self._heard:
            self._heard += 1
            raise StopAsked("stopped on request")


_OF_THE_WHOLE_RUN: Final[Mapping[str, Any]] = {
    "workers": 0,
    "transfers": 0,
    "bandwidth": 0,
    "source_requests": 0,
    "target_requests": 0,
    "source_requests_per_second": 0,
    "target_requests_per_second": 0,
    "start_seconds": FOREVER_SECONDS,
}
"""Of [run]: what steering.py and the pool decide for all."""
