"""What a job does, in a word: what keeps it from going on comes before its phase."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from noria.engine.job_state import STATES, JobState, job_state
from noria.engine.status import JobStatus, Phase
from noria.engine.steering.limits import Giver
from noria.engine.terminal.figures import describe
from noria.engine.terminal.report import print_status, status_summary
from noria.engine.watch.document import document_of
from noria.engine.watch.throughput_history import ThroughputHistory
from tests.engine.watch.a_status import a_full_status, a_guarded_status, a_paused_status


@pytest.mark.parametrize("phase", list(Phase))
def test_a_job_that_nothing_holds_does_what_its_phase_says(phase: Phase) -> None:
    assert job_state(a_full_status(phase=phase)) == JobState(
        state=phase.value, words=phase.value, why=None
    )


@pytest.mark.parametrize(
    ("status", "state", "line"),
    [
        (
            a_paused_status(by="ann@mover-1", since="2026-11-28 07:20 UTC", reason="a patch"),
            "paused",
            "paused by ann@mover-1 since 2026-11-28 07:20 UTC (a patch): nothing new is begun",
        ),
        (
            a_paused_status(by="window office", giver=Giver.WINDOW, until="2026-11-28 18:00 UTC"),
            "paused_by_window",
            "paused by window office until 2026-11-28 18:00 UTC: nothing new is begun",
        ),
        (
            a_guarded_status(0.0, "a small read takes 2 s"),
            "paused_by_guard",
            "paused by the guard of the source (a small read takes 2 s): nothing new is begun",
        ),
        (a_guarded_status(0.6, "a command said no"), "held_by_guard", "moving, held by a guard"),
        (
            a_full_status(phase=Phase.DRAINING, drains="stopped on request"),
            "draining",
            "draining: stopped on request",
        ),
    ],
)
def test_what_holds_it_is_said_first_everywhere(
    capsys: pytest.CaptureFixture[str], status: JobStatus, state: str, line: str
) -> None:
    found = job_state(status)
    assert (found.state, found.line) == (state, line)
    assert state in STATES
    print_status(
        json.loads(json.dumps(status_summary(status, [], Path("job")))) | {"phase": status.phase}
    )
    assert capsys.readouterr().out.splitlines()[0] == f"job {status.job}: {line}"
    assert describe(status).startswith(found.words)
    document = document_of(status, ThroughputHistory(), name="lake", served_seconds=1.0)
    assert (document.state, document.state_words) == (state, found.words)
    assert document.state_why == found.why
    assert document.phase == status.phase.value


def test_a_pause_says_nothing_of_a_job_that_has_ended() -> None:
    paused = a_paused_status(by="ann@mover-1", giver=Giver.PERSON)
    assert paused.in_force is not None
    for phase in (Phase.FINISHED, Phase.STOPPED):
        ended = a_full_status(phase=phase, in_force=paused.in_force)
        assert job_state(ended).state == phase.value
