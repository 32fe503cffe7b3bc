"""`noria bench`: real transfers under every combination of some settings, and the one to choose.

    noria bench JOB.toml --sweep part_bytes=8MiB,32MiB --sweep transfers=16,64

Each run is `noria run` in a process of its own, on a new job that moves the same objects into an
empty folder of its own at the target, and is deleted again afterwards. Runs of the settings take
turns, and each round begins with another one, so that what changes with time changes for all. CPU
and memory are what the operating system counts for the command and all that it starts.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from noria.benchmarks.measure.accounting import Account, measure, open_account
from noria.benchmarks.sweep.choice import Ended, Labels, SweepRun, choose, setting_text, summarize
from noria.benchmarks.sweep.ends import Sample, TargetSandbox, take_sample
from noria.benchmarks.sweep.report import SweepFindings
from noria.benchmarks.sweep.settings import NOT_SWEPT, Setting, read_limit, read_settings
from noria.engine import job
from noria.engine.config.reading import read_job_file
from noria.engine.interpreter import describe_interpreter
from noria.engine.planning import Prepared
from noria.engine.status import load_status
from noria.engine.terminal.figures import duration_text, size_text
from noria.manifests.count_text import count_text
from noria.manifests.errors import ConfigurationError, NoriaError
from noria.manifests.job.directory import JobDirectory

# A session of its own: Ctrl-C on the terminal reaches the bench alone, which passes it on.
PROGRAM = "import os; os.setsid(); from noria.__main__ import main; main()"

WORKER_MARKS = ("ray::WorkerActor", "noria.engine.cluster.worker_process")
"""One of them is in the command line, or the title, of each worker process."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What the user asks for: the options of `noria bench`."""

    job_file: Path
    sweeps: Sequence[str]
    """NAME=VALUE,VALUE,... each."""
    repeats: int = 3
    warm_up: bool = True
    limit: str | None = None
    """About so many bytes of the source. None: all."""
    output: Path | None = None
    """None: beside the job file, `<name>-bench`."""
    keep: bool = False
    address: str | None = None


def bench(options: BenchOptions, say: Say) -> SweepFindings:
    """Run the whole matrix; leaves runs.parquet and the plots in the output directory.

    Raises ConfigurationError for what cannot work, before anything is moved, and what the stores
    raise while the source is looked at.
    """
    config = read_job_file(options.job_file)
    settings = read_settings(config, options.sweeps)
    limit_bytes = None if options.limit is None else read_limit(options.limit)
    output = options.output or options.job_file.with_name(f"{options.job_file.stem}-bench")
    sandbox = TargetSandbox(config.target)
    with _output_directory(output):
        running = _Bench(options, settings, sandbox, output, say, _Stop(say))
        try:
            running.look_at_source(limit_bytes)
            running.run_all()
        finally:
            running.leave()
        return running.findings()


@contextmanager
def _output_directory(output: Path) -> Iterator[None]:
    """A new directory; it is removed again if nothing was written to it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise ConfigurationError(f"{output} is not empty; name another with --output")
    except OSError as error:
        raise ConfigurationError(f"cannot use {output}: {error.strerror}; see --output") from error
    try:
        yield
    finally:
        if not any(output.iterdir()):
            output.rmdir()


class _Stop:
    """Ctrl-C and SIGTERM: passed on to the run under way, and no other one is begun."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked = False
        self.child: subprocess.Popen[bytes] | None = None

    def ask(self, number: int = 0, frame: FrameType | None = None) -> None:
        if not self.asked:
            self._say("stopping: waiting for the current run to end")
        self.asked = True
        # Not send_signal(), which would reap the child before its times have been read.
        if self.child is not None and self.child.returncode is None:
            os.kill(self.child.pid, signal.SIGINT)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        earlier = {number: signal.signal(number, self.ask) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)


class _Watched:
    """An account that tells which process it has launched."""

    def __init__(self, account: Account, stop: _Stop) -> None:
        self._account = account
        self._stop = stop
        self.method = account.method
        self.members = account.members
        self.look = account.look
        self.cpu_seconds = account.cpu_seconds
        self.close = account.close

    def launch(
        self, command: Sequence[str], environment: Mapping[str, str], **options: Any
    ) -> subprocess.Popen[bytes]:
        child = self._account.launch(command, environment, **options)
        self._stop.child = child
        if self._stop.asked:
            self._stop.ask()
        return child


@dataclass(slots=True)
class _Bench:
    """One bench, from the look at the source to the last object deleted. Use once."""

    options: BenchOptions
    settings: Sequence[Setting]
    sandbox: TargetSandbox
    output: Path
    say: Say
    stop: _Stop
    found: list[tuple[Setting, SweepRun]] = field(default_factory=list)
    sample: Sample | None = None
    left: int = 0
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def work(self) -> Path:
        """Job directories and the sample: they hold names of objects, and go at the end."""
        return self.output / "work"

    def look_at_source(self, limit_bytes: int | None) -> None:
        """Read the inventory once, and choose what every run moves."""
        if _plotting() is None:
            self.say("no plots without matplotlib: pip install 'noria[bench]'")
        target = self.sandbox.folder("inventory")
        config = self.settings[0].config.model_copy(update={"target": target})
        prepared = job.plan(config, self.work / "inventory", self.say)
        self.sample = take_sample(prepared, self.work / "sample", limit_bytes)
        manifest = prepared.manifest
        self.say(
            f"each run moves {self.sample.objects:,} of "
            f"{count_text(manifest.objects_to_move, 'object')}, "
            f"{size_text(self.sample.bytes)} of {size_text(manifest.bytes_to_move)}, "
            f"to {self.sandbox.url}"
        )

    def run_all(self) -> None:
        with self.stop.on_signals():
            rounds = range(0 if self.options.warm_up else 1, self.options.repeats + 1)
            for number in rounds:
                for setting in self._round(number):
                    if self.stop.asked:
                        return
                    run = self._run(setting, number)
                    self.found.append((setting, run))
                    write_runs(self.output / "runs.parquet", self.found)
                    self.say(_run_text(setting.labels, run, self.options.repeats))
                    if number == 0 and run.ended is Ended.WELL:
                        self._say_how_long(run.wall_seconds)

    def _round(self, number: int) -> Sequence[Setting]:
        """The settings in another order each time; the warm-up is one run."""
        if number == 0:
            return self.settings[:1]
        first = (number - 1) % len(self.settings)
        return [*self.settings[first:], *self.settings[:first]]

    def _say_how_long(self, seconds: float) -> None:
        runs = self.options.repeats * len(self.settings)
        self.say(f"{runs} runs left: about {duration_text(runs * seconds)} and the cleaning up")

    def _run(self, setting: Setting, number: int) -> SweepRun:
        """Plan, run under account, delete. A failure of any of these is the run's."""
        name = f"run-{next(self._numbers):04}"
        root = self.work / name
        assert self.sample is not None, "look_at_source() comes first"
        config = setting.config.model_copy(
            update={"target": self.sandbox.folder(name), "inventory": self.sample.inventory}
        )
        try:
            prepared = job.plan(config, root)
        except NoriaError as error:
            return SweepRun(round=number, ended=Ended.FAILED, exit_code=3, cause=_cause_text(error))
        ended_well = False
        try:
            run = self._measure(root, number)
            ended_well = run.ended is Ended.WELL
        finally:
            if not self.options.keep:
                self._clean(prepared, ended_well)
        return run

    def _clean(self, prepared: Prepared, ended_well: bool) -> None:
        root = prepared.directory.root
        try:
            self.sandbox.clear(prepared, ended_well=ended_well)
        except NoriaError as error:
            self.say(f"could not clean up after {root.name}: {_cause_text(error)}")
        # Not before: it says what the run wrote.
        shutil.rmtree(root, ignore_errors=True)

    def _measure(self, root: Path, number: int) -> SweepRun:
        command = [sys.executable, "-P", "-c", PROGRAM, "run", str(root), "--json"]
        if self.options.address is not None:
            command += ["--address", self.options.address]
        said, errors = root.with_suffix(".json"), root.with_suffix(".txt")
        with open_account() as account, said.open("wb") as out, errors.open("wb") as err:
            usage = measure(
                command,
                os.environ,
                account=_Watched(account, self.stop),
                roles=_role,
                output=out,
                errors=err,
                limit_seconds=float("inf"),
            )
        self.stop.child = None
        document = _document(said)
        status = load_status(JobDirectory.open(root))
        counters = {} if status is None else status.metrics.counters
        ended, cause = _ending(usage.exit_code, document, self.stop.asked)
        return SweepRun(
            round=number,
            ended=ended,
            exit_code=usage.exit_code,
            cause=cause,
            wall_seconds=usage.wall_seconds,
            move_seconds=0.0 if status is None else status.run_seconds,
            bytes=document.get("bytes", 0),
            objects=document.get("outcomes", {}).get("TRANSFERRED", 0),
            cpu_seconds=usage.cpu_seconds,
            driver_cpu_seconds=usage.cpu_by_role.get("driver", 0.0),
            workers_cpu_seconds=usage.cpu_by_role.get("workers", 0.0),
            other_cpu_seconds=sum(usage.cpu_by_role.get(role, 0.0) for role in ("other", "unseen")),
            peak_rss_bytes=usage.peak_rss_bytes,
            peak_pss_bytes=usage.peak_pss_bytes,
            retries=_counted(counters, "retries"),
            throttles=_counted(counters, "throttles"),
            cpu_scope="all processes" if self.options.address is None else "driver only",
            cpu_method=usage.method,
        )

    def leave(self) -> None:
        """Look what is left at the target, and drop what holds names of objects."""
        try:
            self.left = self.sandbox.count_left() if self.found else 0
        except NoriaError as error:
            self.say(f"could not list {self.sandbox.url}: {_cause_text(error)}")
        self.sandbox.drop_folders()
        if not self.options.keep:
            shutil.rmtree(self.work, ignore_errors=True)

    def findings(self) -> SweepFindings:
        labels = [setting.labels for setting in self.settings]
        summaries = summarize(labels, [(setting.labels, run) for setting, run in self.found])
        whole_cost = self.options.address is None
        choice = choose(summaries, whole_cost=whole_cost)
        files = [self.output / "runs.parquet"] if self.found else []
        found = SweepFindings(
            output=self.output,
            files=files,
            summaries=summaries,
            choice=choice,
            whole_cost=whole_cost,
            planned=self.options.repeats * len(self.settings),
            stopped=self.stop.asked,
            left=self.left,
            place=self.sandbox.url,
        )
        files += self._plots(found)
        return found

    def _plots(self, found: SweepFindings) -> list[Path]:
        plotting = _plotting()
        if plotting is None:
            return []
        chosen = None if found.choice is None else found.choice.chosen.labels
        scope = "all processes" if found.whole_cost else "the driver only"
        moved = "" if self.sample is None else f"{size_text(self.sample.bytes)} a run"
        notes = {plotting.THROUGHPUT: moved, plotting.CPU: f"{moved}, {scope}"}
        plots = [
            plotting.plot(drawn, found.summaries, chosen, note, self.output)
            for drawn, note in notes.items()
        ]
        return [path for path in plots if path is not None]


def _plotting() -> ModuleType | None:
    """benchmarks/sweep/plots.py, or None if matplotlib is not installed."""
    try:
        from noria.benchmarks.sweep import plots as sweep_plots
    except ImportError:
        return None
    return sweep_plots


def _role(command: str) -> str:
    if PROGRAM in command:
        return "driver"
    return "workers" if any(mark in command for mark in WORKER_MARKS) else "other"


def _document(path: Path) -> dict[str, Any]:
    """What `noria run --json` printed; empty if it was killed before."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _ending(exit_code: int, document: Mapping[str, Any], asked: bool) -> tuple[Ended, str]:
    if exit_code == 0:
        return Ended.WELL, ""
    if asked:
        return Ended.STOPPED, "stopped on request"
    if exit_code < 0:
        cause = f"ended by {signal.Signals(-exit_code).name}"
    elif "error" in document:
        cause = f"{document['cause']}: {document['error']}"
    elif document.get("stopped"):
        cause = str(document["stopped"])
    else:
        found = {**document.get("causes", {}), **document.get("differences", {})}
        cause = ", ".join(f"{count:,} {name}" for name, count in found.items()) or "no reason given"
    return Ended.FAILED, cause


def _cause_text(error: NoriaError) -> str:
    return f"{error.cause}: {error.message}"


def _counted(counters: Mapping[tuple[str, ...], float], metric: str) -> int:
    return int(sum(value for labels, value in counters.items() if labels[0] == metric))


def _run_text(labels: Labels, run: SweepRun, rounds: int) -> str:
    where = f"round {run.round} of {rounds}" if run.round else "warm-up"
    if run.ended is not Ended.WELL:
        return f"{where}: {setting_text(labels)}: {run.ended}, exit {run.exit_code}, {run.cause}"
    return (
        f"{where}: {setting_text(labels)}: {size_text(run.bytes_per_second)}/s, "
        f"{run.cpu_seconds_per_gb:.2f} CPU s/GB, {size_text(run.peak_rss_bytes)} RSS, "
        f"{duration_text(run.wall_seconds)}"
    )


def _rates(run: SweepRun) -> dict[str, float | None]:
    """Null for a run that did not end well: nobody is to average it in."""
    names = ("bytes_per_second", "objects_per_second", "cpu_seconds_per_gb")
    return {name: getattr(run, name) if run.ended is Ended.WELL else None for name in names}


def write_runs(path: Path, found: Sequence[tuple[Setting, SweepRun]]) -> None:
    """One row for each run: every setting of [plan] and [run], then the fields of SweepRun."""
    rows = [
        {
            **setting.config.plan.model_dump(),
            **setting.config.run.model_dump(exclude=set(NOT_SWEPT)),
            "swept": setting_text(setting.labels),
            **asdict(run),
            **_rates(run),
        }
        for setting, run in found
    ]
    about = {
        "noria": importlib.metadata.version("noria"),
        "interpreter": describe_interpreter(),
        "cpus": str(os.cpu_count()),
    }
    table = pa.Table.from_pylist(rows).replace_schema_metadata(about)
    scratch = path.with_name(f".{path.name}")
    pq.write_table(table, scratch, compression="zstd")
    scratch.replace(path)
