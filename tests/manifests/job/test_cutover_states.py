"""Where a migration stands: nothing is switched that was not frozen, moved, proved and approved."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.manifests.errors import ConfigurationError
from noria.manifests.job.cutover_states import (
    MigrationState,
    Standing,
    allowed,
    refusal,
    require,
    standing,
)
from noria.manifests.job.history import Record, RecordKind

Step = tuple[RecordKind, int]
"""What happened, and the number of the pass, if it is about one."""

PLANNED, ENDED, STOPPED = RecordKind.PLANNED, RecordKind.PASS_ENDED, RecordKind.STOPPED
VERIFIED = RecordKind.VERIFIED
FROZEN, PROVING, PROVED = RecordKind.FROZEN, RecordKind.PROVING, RecordKind.PROVED
APPROVED, SWITCHED, GRACE = RecordKind.APPROVED, RecordKind.SWITCHED, RecordKind.GRACE

WHOLE_LIFE: list[tuple[RecordKind, int, MigrationState]] = [
    (PLANNED, 1, MigrationState.PLANNED),
    (ENDED, 1, MigrationState.COPYING),
    (PLANNED, 2, MigrationState.COPYING),
    (ENDED, 2, MigrationState.COPYING),
    (RecordKind.CONVERGING, 0, MigrationState.CONVERGING),
    (PLANNED, 3, MigrationState.CONVERGING),
    (STOPPED, 0, MigrationState.CONVERGING),
    (ENDED, 3, MigrationState.CONVERGING),
    (FROZEN, 0, MigrationState.FROZEN),
    (PLANNED, 4, MigrationState.FROZEN),
    (ENDED, 4, MigrationState.FROZEN),
    (PROVING, 0, MigrationState.PROVING),
    (PROVED, 0, MigrationState.PROVING),
    (APPROVED, 0, MigrationState.PROVING),
    (SWITCHED, 0, MigrationState.SWITCHED),
    (GRACE, 0, MigrationState.GRACE),
    (RecordKind.RETIRED, 0, MigrationState.RETIRED),
]


def records_of(steps: Sequence[Step]) -> list[Record]:
    return [
        Record(
            number=number,
            kind=kind,
            at="2026-11-28T07:20:14Z",
            by="ann@mover-1",
            previous="0" * 64,
            facts={"pass": about} if kind in (PLANNED, ENDED) else {},
            digest="0" * 64,
        )
        for number, (kind, about) in enumerate(steps, 1)
    ]


def steps_to(state: MigrationState) -> list[Step]:
    """The shortest part of a whole life after which a migration is there."""
    place = next(place for place, step in enumerate(WHOLE_LIFE) if step[2] is state)
    return [(kind, about) for kind, about, _ in WHOLE_LIFE[: place + 1]]


def taken(steps: Sequence[Step]) -> Standing:
    """Take each step as append() would; every one has to be permitted."""
    records = records_of(steps)
    for place, record in enumerate(records):
        require(records[:place], record.kind)
    return standing(records)


def test_a_whole_life() -> None:
    steps: list[Step] = []
    for kind, about, state in WHOLE_LIFE:
        steps.append((kind, about))
        assert taken(steps).state is state
        assert taken([*steps, (VERIFIED, 0)]) == taken(steps), "reading back changes nothing"
    assert allowed(taken(steps)) == {VERIFIED}


def test_without_records_it_is_planned() -> None:
    assert standing([]) == Standing()
    assert Standing().state is MigrationState.PLANNED
    assert allowed(Standing()) == {PLANNED, ENDED, STOPPED, VERIFIED, RecordKind.WITHDRAWN}


@pytest.mark.parametrize(
    "state",
    [
        MigrationState.FROZEN,
        MigrationState.PROVING,
        MigrationState.SWITCHED,
        MigrationState.GRACE,
    ],
)
def test_a_rollback_leads_back_to_passes(state: MigrationState) -> None:
    back = [*steps_to(state), (RecordKind.ROLLED_BACK, 0)]
    assert taken(back).state is MigrationState.ROLLED_BACK
    assert taken([*back, (PLANNED, 9)]).state is MigrationState.CONVERGING
    assert taken([*back, (RecordKind.CONVERGING, 0)]).state is MigrationState.CONVERGING
    assert taken([*back, (FROZEN, 0)]) == Standing(state=MigrationState.FROZEN, a_pass_ended=True)
    again: list[Step] = [(PLANNED, 9), (ENDED, 9), (FROZEN, 0)]
    assert taken([*back, *again]).state is MigrationState.FROZEN
    assert PROVING not in allowed(taken([*back, *again])), "the pass was before this freeze"


@pytest.mark.parametrize(
    "state",
    [
        MigrationState.PLANNED,
        MigrationState.COPYING,
        MigrationState.CONVERGING,
        MigrationState.RETIRED,
    ],
)
def test_elsewhere_there_is_nothing_to_roll_back(state: MigrationState) -> None:
    refused = refusal(taken(steps_to(state)), RecordKind.ROLLED_BACK)
    assert refused is not None
    assert f"this migration is {state}" in refused


def test_only_a_pass_that_was_planned_under_the_freeze_counts() -> None:
    before: list[Step] = [(ENDED, 1), (PLANNED, 2), (FROZEN, 0), (ENDED, 2)]
    assert PROVING not in allowed(taken(before))
    assert PROVING not in allowed(taken([*before, (PLANNED, 3)]))
    assert PROVING not in allowed(taken([*before, (PLANNED, 3), (ENDED, 2)]))
    assert PROVING in allowed(taken([*before, (PLANNED, 3), (ENDED, 3)]))


def test_a_pass_that_does_not_say_its_number_does_not_count() -> None:
    records = records_of([(ENDED, 1), (FROZEN, 0)])
    records += [
        Record(
            number=number,
            kind=kind,
            at="2026-11-28T07:20:14Z",
            by="a@b",
            previous="0" * 64,
            facts={},
            digest="0" * 64,
        )
        for number, kind in ((3, PLANNED), (4, ENDED))
    ]
    assert not standing(records).ended_under_freeze


def test_what_was_proved_counts_no_longer_after_another_pass() -> None:
    proved = [*steps_to(MigrationState.PROVING), (PROVED, 0), (APPROVED, 0)]
    assert SWITCHED in allowed(taken(proved))
    for later in ([(PLANNED, 5)], [(ENDED, 4)], [(PLANNED, 5), (ENDED, 5)], [(PROVING, 0)]):
        stands = taken([*proved, *later])
        assert not stands.proved
        assert not stands.approved
        assert not {APPROVED, SWITCHED} & allowed(stands)
    again = taken([*proved, (PLANNED, 5), (ENDED, 5), (PROVING, 0), (PROVED, 0)])
    assert SWITCHED not in allowed(again), "the approval was of the proof before"


def test_a_second_proof_needs_its_own_approval() -> None:
    proved = [*steps_to(MigrationState.PROVING), (PROVED, 0), (APPROVED, 0), (PROVED, 0)]
    assert SWITCHED not in allowed(taken(proved))


@pytest.mark.parametrize("state", [MigrationState.SWITCHED, MigrationState.GRACE])
def test_no_pass_overwrites_a_target_that_is_in_use(state: MigrationState) -> None:
    for kind in (PLANNED, ENDED, RecordKind.CONVERGING, FROZEN):
        with pytest.raises(ConfigurationError, match="needs a") as caught:
            require(records_of(steps_to(state)), kind)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("state", "kind", "said"),
    [
        (
            MigrationState.PLANNED,
            FROZEN,
            "`noria cutover` needs a pass that has ended: run the job first; this migration is "
            "planned",
        ),
        (
            MigrationState.FROZEN,
            PROVING,
            "`noria cutover` needs a pass that was planned under the freeze, and has ended; this "
            "migration is frozen",
        ),
        (
            MigrationState.PROVING,
            SWITCHED,
            "the switch of `noria cutover` needs a proof, and its approval; this migration is "
            "proving",
        ),
        (
            MigrationState.SWITCHED,
            PLANNED,
            "`noria sync` needs a source that is still in use (a rollback makes it so); "
            "this migration is switched",
        ),
    ],
)
def test_a_refusal_is_one_line_that_says_what_is_needed(
    state: MigrationState, kind: RecordKind, said: str
) -> None:
    assert refusal(taken(steps_to(state)), kind) == said


@given(st.lists(st.tuples(st.sampled_from(RecordKind), st.integers(1, 3)), max_size=40))
def test_whatever_is_tried_a_switch_has_all_that_it_needs(tries: list[Step]) -> None:
    """Steps that are refused are left out, as append() leaves them out."""
    steps: list[Step] = []
    for kind, about in tries:
        if refusal(standing(records_of(steps)), kind) is None:
            steps.append((kind, about))
    kinds = [kind for kind, _ in steps]
    for place, kind in enumerate(kinds):
        if kind is not SWITCHED:
            continue
        freeze = max(at for at in range(place) if kinds[at] is FROZEN)
        plan = max(at for at in range(freeze, place) if kinds[at] is PLANNED)
        ended = steps.index((ENDED, steps[plan][1]), plan)
        proof = max(at for at in range(ended, place) if kinds[at] is PROVED)
        assert APPROVED in kinds[proof:place]
        assert not {PLANNED, ENDED, RecordKind.ROLLED_BACK} & set(kinds[proof:place])


@given(st.lists(st.tuples(st.sampled_from(RecordKind), st.integers(1, 3)), max_size=20))
def test_what_has_happened_is_believed_whatever_went_before(steps: list[Step]) -> None:
    stands = standing(records_of([*steps, (SWITCHED, 0)]))
    assert stands.state is MigrationState.SWITCHED
