"""The guards of a run: what is asked whether a store has room for the job, and how.

Each is asked on a thread of its own, so that a slow answer holds nobody up. What its answers come
to is decided in engine/steering/guard.py.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

from noria.engine.config.jobfile import GuardConfig, PrometheusConfig
from noria.engine.steering.guard import BASELINE_READS, GuardControl, GuardState, LatencyWatch
from noria.manifests.counters import StoreRole
from noria.manifests.errors import NoriaError, Retryable

log = logging.getLogger("noria.driver")

ANSWER_SECONDS: Final = 30.0
"""A command or a query that takes longer could not be asked."""
READ_BYTES: Final = 4096
MOST_ANSWER_BYTES: Final = 1024 * 1024

Read = Callable[[], None]
"""One small read of a store. Raises NoriaError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardAnswer:
    """What a guard said."""

    may_go_on: bool | None
    """None: it could not be asked."""
    said: str
    """For people."""
    is_early: bool = False
    """It could be asked, and does not know enough yet."""


class StoreGuard:
    """One guard of one store. Its thread ends with close()."""

    def __init__(
        self,
        role: StoreRole,
        config: GuardConfig,
        ask: Callable[[bool], GuardAnswer],
        *,
        first_answers: int = 0,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        """`ask` gets whether the job is quiet; `give_up` ends a question that is under way.

        `first_answers`: so many before the job begins.
        """
        self.role = role
        self._ask = ask
        self._give_up = give_up
        self._every_seconds = config.every
        self._control = GuardControl(config.floor)
        self._quiet = True
        self._closed = threading.Event()
        self._first_answers = first_answers
        self._answers: queue.SimpleQueue[GuardAnswer] = queue.SimpleQueue()
        self._asked_at = time.monotonic()
        self._said = "not asked yet"
        self._thread = threading.Thread(target=self._run, name=f"{role} guard", daemon=True)

    def begin(self) -> None:
        """Learn what a quiet store is like, before the job does a thing, then go on asking."""
        for number in range(1, self._first_answers + 1):
            answer = self._ask(True)
            self._said = answer.said
            if answer.may_go_on is None and number == 1 and not answer.is_early:
                log.warning("the guard of the %s could not be asked: %s", self.role, answer.said)
                break
        self._thread.start()

    def close(self) -> None:
        """Ask no more; what was asked last is given up. A repeat does nothing."""
        self._closed.set()
        self._give_up()

    def look(self, now: float, *, quiet: bool) -> GuardState:
        """What its answers come to now. `quiet`: the job does nothing at the store."""
        self._quiet = quiet
        answers = drained(self._answers)
        before = self._control.factor
        for answer in answers:
            self._asked_at, self._said = now, answer.said
            self._control.hear(answer.may_go_on, now)
        if not answers and now - self._asked_at > self._every_seconds + ANSWER_SECONDS:
            self._control.hear(None, now)
        factor = self._control.factor
        if (before < 1.0) != (factor < 1.0):
            state = "holds the job back" if factor < 1.0 else "leaves the job its full pace"
            log.warning("the guard of the %s %s: %s", self.role, state, self._said)
        return GuardState(factor=factor, said=self._said)

    def pass_over(self, now: float) -> None:
        """The job does nothing at the store: what it says does not count."""
        drained(self._answers)
        self._asked_at = now

    def _run(self) -> None:
        while not self._closed.wait(self._every_seconds):
            self._answers.put(self._ask(self._quiet))


class GuardsOfRun(Protocol):
    """What asks the guards of a run. A context manager that closes."""

    @property
    def are_there(self) -> bool:
        """There is at least one."""

    def begin(self) -> None:
        """To be called before the first worker, or page, is asked for: takes some small reads."""

    def look(self, now: float, *, quiet: bool) -> Mapping[str, GuardState]:
        """Store -> what its guard says."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Guards:
    """All guards of a run. A context manager that closes."""

    def __init__(self, guards: Sequence[StoreGuard] = ()) -> None:
        self._guards = guards

    @property
    def are_there(self) -> bool:
        return bool(self._guards)

    def begin(self) -> None:
        for guard in self._guards:
            guard.begin()

    def look(self, now: float, *, quiet: bool) -> Mapping[str, GuardState]:
        """Store -> what its guard says."""
        return {guard.role.value: guard.look(now, quiet=quiet) for guard in self._guards}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for guard in self._guards:
            guard.close()


def make_guard(role: StoreRole, config: GuardConfig, reads: Iterator[Read]) -> StoreGuard:
    """A guard as the job file has it. `reads` yields small reads of the store for ever."""
    if config.command is not None:
        command = GuardCommand(config.command)
        return StoreGuard(role, config, lambda quiet: command.ask(), give_up=command.close)
    if config.prometheus is not None:
        query = config.prometheus
        return StoreGuard(role, config, lambda quiet: ask_prometheus(query))
    assert config.latency_factor is not None, "one of the three is given"
    watch = LatencyWatch(config.latency_factor, config.baseline)
    return StoreGuard(
        role,
        config,
        lambda quiet: ask_store(next(reads), watch, quiet=quiet),
        first_answers=BASELINE_READS,
    )


def ask_store(read: Read, watch: LatencyWatch, *, quiet: bool) -> GuardAnswer:
    """Read a little, and compare how long it took. An object that is refused was answered, too."""
    began = time.monotonic()
    try:
        read()
    except Retryable as error:
        return GuardAnswer(may_go_on=None, said=f"a small read failed: {error.cause}")
    except NoriaError:
        pass
    seconds = time.monotonic() - began
    may_go_on = watch.hear(seconds, quiet=quiet)
    took = f"a small read took {1000 * seconds:.0f} ms"
    if watch.most_seconds is None or watch.baseline_seconds is None:
        return GuardAnswer(
            may_go_on=None, said=f"{took}; what is usual is not known yet", is_early=True
        )
    most, usual = 1000 * watch.most_seconds, 1000 * watch.baseline_seconds
    return GuardAnswer(
        may_go_on=may_go_on, said=f"{took}; {usual:.1f} ms when quiet, {most:.1f} ms are allowed"
    )


class GuardCommand:
    """A user's command that is asked again and again. None outlives its question."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def ask(self) -> GuardAnswer:
        """Exit code 0: the job may go on; 1: it may not; other codes do not count."""
        try:
            process = self._begin()
        except OSError as error:
            return GuardAnswer(may_go_on=None, said=f"its command cannot be run: {error.strerror}")
        if process is None:
            return GuardAnswer(may_go_on=None, said="it is not asked any more")
        try:
            code = process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            _end_with_children(process)
            process.wait()
            return GuardAnswer(may_go_on=None, said=f"its command took over {ANSWER_SECONDS:.0f} s")
        return GuardAnswer(
            may_go_on={0: True, 1: False}.get(code), said=f"its command ended with {code}"
        )

    def close(self) -> None:
        """End the one that runs, and begin no other. A repeat does nothing."""
        with self._lock:
            self._is_closed = True
            if self._process is not None and self._process.poll() is None:
                _end_with_children(self._process)

    def _begin(self) -> subprocess.Popen[bytes] | None:
        """None: it is closed."""
        with self._lock:
            if self._is_closed:
                return None
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A group of its own: what the shell has started ends with it.
                start_new_session=True,
            )
            return self._process


def _end_with_children(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process that leads a group, and to the group. It may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ask_prometheus(query: PrometheusConfig) -> GuardAnswer:
    """Ask for the values of the query now: one above the bound is a "no", and none no answer."""
    # It takes as long to load as all that a driver needs otherwise.
    from urllib.error import HTTPError
    from urllib.parse import urlencode
    from urllib.request import urlopen

    asked = urlencode({"query": query.query})
    url = f"{query.url.rstrip('/')}/api/v1/query?{asked}"
    try:
        with urlopen(url, timeout=ANSWER_SECONDS) as response:
            answer = json.loads(response.read(MOST_ANSWER_BYTES))
        values = [float(value) for value in _values(answer["data"])]
    except (OSError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, HTTPError):
            error.close()
        return GuardAnswer(
            may_go_on=None, said=f"Prometheus gave no answer: {type(error).__name__}"
        )
    if not values:
        return GuardAnswer(may_go_on=None, said="the query has no value now")
    return GuardAnswer(
        may_go_on=max(values) <= query.above, said=f"{max(values):g}, {query.above:g} are allowed"
    )


def _values(data: Mapping[str, object]) -> Iterator[str]:
    """Of a vector or a scalar, as Prometheus answers."""
    result: Any = data["result"]
    if data["resultType"] == "scalar":
        yield result[1]
    else:
        yield from (series["value"][1] for series in result)


def drained(answers: queue.SimpleQueue[GuardAnswer]) -> list[GuardAnswer]:
    """All answers that are there."""
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(answers.get_nowait())
    return found


def in_turn(reads: Sequence[Read]) -> Iterator[Read]:
    """The reads again and again: one object alone would lie in a cache."""
    return itertools.cycle(reads)
