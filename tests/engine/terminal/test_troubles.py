"""With -v a run says what goes wrong, as numbers by cause."""

from __future__ import annotations

from dataclasses import replace

from noria.engine.status import JobStatus, Phase
from noria.engine.terminal.troubles import SAY_SECONDS, Troubles
from noria.manifests.counters import Counter
from noria.manifests.model import MetricsSnapshot

QUIET = JobStatus(job="7f3a", phase=Phase.MOVING, updated_seconds=0)


def counted(errors: float, throttles: float = 0.0) -> JobStatus:
    counters = {
        (Counter.ERRORS, "unavailable"): errors,
        (Counter.RETRIES, "unavailable"): errors,
        (Counter.THROTTLES, "source"): throttles,
        (Counter.BYTES_READ,): 5e9,
    }
    return replace(QUIET, metrics=MetricsSnapshot(counters=counters))


def test_what_is_new_is_said_now_and_then() -> None:
    said: list[str] = []
    now = [0.0]
    troubles = Troubles(said.append, clock=lambda: now[0])
    troubles.show(QUIET)
    assert said == []
    troubles.show(counted(3, 1))
    assert said == [
        "errors: 3 unavailable; tried again: 3 unavailable; told to slow down, by the: 1 source"
    ]
    troubles.show(counted(1200))
    assert len(said) == 1, "it was said a moment ago"
    now[0] += SAY_SECONDS
    troubles.show(counted(1203, 1))
    assert said[1:] == ["errors: 1,200 unavailable; tried again: 1,200 unavailable"]
    troubles.show(replace(counted(1204, 1), phase=Phase.FINISHED))
    assert said[2:] == ["errors: 1 unavailable; tried again: 1 unavailable"], (
        "the end waits for nothing"
    )
