"""Faults that come together: some of these, drawn from a seed, hit one lease at the same time.

What each does alone its cell says. Of a few at once nobody can say what becomes of an object; only
that whatever is said of it is so, which is what the scene asks.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.cells import Scene
from tests.support.fault_proxy.rules import (
    Fault,
    Operation,
    cap,
    cut_answer,
    error_document,
    flip_request,
    lose_answer,
    meanwhile,
    on,
    refuse,
    replace_answer,
    reset,
    reset_in_body,
    response,
    shift_range,
    stall,
)
from tests.support.faulty import Case

Inject = Callable[[Scene, Case], None]
READS = on(Operation.READ)
BODIES = on(Operation.PUT, Operation.PART)
COMMITS = on(Operation.PUT, Operation.COMPLETE)


def storm(end: str, status: int, code: str) -> Inject:
    def inject(scene: Scene, case: Case) -> None:
        proxy = case.source if end == "source" else case.target
        times, skip = scene.dice.randint(1, 12), scene.dice.randrange(6)
        proxy.add(Fault(match=on(), action=refuse(status, code), times=times, skip=skip))

    return inject


def read_fault(scene: Scene, case: Case) -> None:
    action = scene.dice.choice(
        [reset(), cut_answer(scene.dice.random()), shift_range(), stall(0.2, at="body"), cap(5e6)]
    )
    skip = scene.dice.randrange(4)
    case.source.add(Fault(match=READS, action=action, skip=skip, times=scene.dice.randint(1, 3)))


def body_fault(scene: Scene, case: Case) -> None:
    action = scene.dice.choice(
        [flip_request(), reset_in_body(scene.dice.randrange(1, 50_000)), lose_answer(), cap(2e7)]
    )
    skip = scene.dice.randrange(4)
    case.target.add(Fault(match=BODIES, action=action, skip=skip, times=scene.dice.randint(1, 2)))


def commit_fault(scene: Scene, case: Case) -> None:
    action = scene.dice.choice(
        [
            lose_answer(),
            response(200),
            response(200, body=error_document("InternalError")),
            replace_answer(status=500, body=error_document("InternalError")),
            refuse(500, "InternalError"),
            stall(0.3),
        ]
    )
    case.target.add(Fault(match=COMMITS, action=action, skip=scene.dice.randrange(3)))


def another_writer(scene: Scene, case: Case) -> None:
    key = scene.dice.choice(sorted(case.job.sizes))
    put = meanwhile(lambda: case.job.target.put(f"to/{key}", b"another's"))
    case.target.add(
        Fault(match=on(Operation.PUT, Operation.COMPLETE, name=f"/to/{key}"), action=put)
    )


def overwritten_source(scene: Scene, case: Case) -> None:
    key = scene.dice.choice(sorted(case.job.sizes))
    other = scene.dice.randbytes(case.job.sizes[key])
    put = meanwhile(lambda: case.job.source.put(f"from/{key}", other))
    skip = scene.dice.randrange(2)
    case.source.add(Fault(match=on(Operation.READ, name=f"/{key}"), action=put, skip=skip))


def aborted_upload(scene: Scene, case: Case) -> None:
    drop = meanwhile(case.job.target.drop_uploads)
    operation = scene.dice.choice([Operation.PART, Operation.COMPLETE])
    case.target.add(Fault(match=on(operation), action=drop))


INJECTIONS: dict[str, Inject] = {
    "503 at the source": storm("source", 503, "ServerBusy"),
    "429 at the source": storm("source", 429, "TooManyRequests"),
    "500 at the source": storm("source", 500, "InternalError"),
    "503 at the target": storm("target", 503, "SlowDown"),
    "500 at the target": storm("target", 500, "InternalError"),
    "broken reads": read_fault,
    "broken bodies": body_fault,
    "lying commits": commit_fault,
    "another writer": another_writer,
    "an overwritten source": overwritten_source,
    "an aborted upload": aborted_upload,
}


def play_some(scene: Scene, count: int = 2) -> tuple[str, ...]:
    """Let so many drawn faults hit one lease; their names."""
    names = tuple(scene.dice.sample(sorted(INJECTIONS), count))
    case = scene.case(scene.dice.choice(["azure-s3", "s3-azure"]))
    for name in names:
        INJECTIONS[name](scene, case)
    scene.finish(case, exact=False, opening_may_be_lost=True)
    return names
