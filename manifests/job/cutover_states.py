"""Where a migration stands, and what may come next: read from its records, and nothing else.

    planned ── copying ── converging ── frozen ── proving ── switched ── grace ── retired
                  ╰───────────────────────╯ ╰──────────┬────────────────────╯
                                                  rolled_back ── converging, frozen

A record says what has happened, so where a migration stands follows from its records even if a step
was left out. What is refused is a step that should not be taken: require() is for append()'s
`check`, which asks it before each try.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from noria.manifests.errors import ConfigurationError
from noria.manifests.job.history import PASS, Record, RecordKind


class MigrationState(StrEnum):
    PLANNED = "planned"
    """No pass has ended yet."""
    COPYING = "copying"
    """A pass has ended."""
    CONVERGING = "converging"
    """Later passes bring the lag down."""
    FROZEN = "frozen"
    """Nobody writes to the source; the last pass is under way, or has ended."""
    PROVING = "proving"
    """The target is compared with the source, then a person approves."""
    SWITCHED = "switched"
    GRACE = "grace"
    """The target is in use, and the source is kept."""
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"
    """The source is in use again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a migration stands."""

    state: MigrationState = MigrationState.PLANNED
    a_pass_ended: bool = False
    planned_under_freeze: int | None = None
    """The number of the last pass planned under this freeze: it lists the source as it stays."""
    ended_under_freeze: bool = False
    """That pass has ended."""
    proved: bool = False
    """The target was found equal, and nothing was moved since."""
    approved: bool = False
    """A person has approved that proof."""


_COMMANDS: Mapping[RecordKind, str] = {
    RecordKind.PLANNED: "`noria sync`",
    RecordKind.PASS_ENDED: "`noria sync`",
    RecordKind.WITHDRAWN: "withdrawing a pass",
    RecordKind.CONVERGING: "`noria sync`",
    RecordKind.FROZEN: "`noria cutover`",
    RecordKind.PROVING: "`noria cutover`",
    RecordKind.PROVED: "`noria cutover`",
    RecordKind.APPROVED: "an approval",
    RecordKind.SWITCHED: "the switch of `noria cutover`",
    RecordKind.GRACE: "`noria cutover`",
    RecordKind.ROLLED_BACK: "a rollback",
    RecordKind.RETIRED: "retiring the source",
    RecordKind.VERIFIED: "`noria verify`",
    RecordKind.STOPPED: "a step",
}
_NOT_FROZEN = (
    MigrationState.PLANNED,
    MigrationState.COPYING,
    MigrationState.CONVERGING,
    MigrationState.ROLLED_BACK,
)
_UNDER_FREEZE = (MigrationState.FROZEN, MigrationState.PROVING)
_IN_USE = (MigrationState.SWITCHED, MigrationState.GRACE)
_MAY_PASS = (*_NOT_FROZEN, *_UNDER_FREEZE)
_PLACES: Mapping[RecordKind, tuple[Container[MigrationState], str]] = {
    RecordKind.PLANNED: (_MAY_PASS, "a source that is still in use (a rollback makes it so)"),
    RecordKind.PASS_ENDED: (_MAY_PASS, "a source that is still in use (a rollback makes it so)"),
    RecordKind.WITHDRAWN: (_MAY_PASS, "a source that is still in use (a rollback makes it so)"),
    RecordKind.CONVERGING: (_NOT_FROZEN, "a source that is in use, and not frozen"),
    RecordKind.FROZEN: (_NOT_FROZEN, "a source that is in use, and not frozen yet"),
    RecordKind.PROVING: (_UNDER_FREEZE, "a frozen source"),
    RecordKind.PROVED: ((MigrationState.PROVING,), "a proof that was begun"),
    RecordKind.APPROVED: ((MigrationState.PROVING,), "a proof, with nothing moved since"),
    RecordKind.SWITCHED: ((MigrationState.PROVING,), "a proof, and its approval"),
    RecordKind.GRACE: ((MigrationState.SWITCHED,), "a migration that was switched"),
    RecordKind.RETIRED: ((MigrationState.GRACE,), "a migration that is in its time of grace"),
    RecordKind.ROLLED_BACK: (
        (*_UNDER_FREEZE, *_IN_USE),
        "a migration that is frozen, proving, switched or in grace",
    ),
    RecordKind.VERIFIED: (tuple(MigrationState), "a migration"),
    RecordKind.STOPPED: ((*_MAY_PASS, *_IN_USE), "a migration that is not over"),
}
"""Kind of a record -> the states in which it may come, and what is needed elsewhere."""
_ENTERS: Mapping[RecordKind, MigrationState] = {
    RecordKind.CONVERGING: MigrationState.CONVERGING,
    RecordKind.FROZEN: MigrationState.FROZEN,
    RecordKind.SWITCHED: MigrationState.SWITCHED,
    RecordKind.GRACE: MigrationState.GRACE,
    RecordKind.RETIRED: MigrationState.RETIRED,
    RecordKind.ROLLED_BACK: MigrationState.ROLLED_BACK,
}


def standing(records: Iterable[Record]) -> Standing:
    """Where a migration with these records stands. One without records is planned."""
    stands = Standing()
    for record in records:
        stands = _after(stands, record)
    return stands


def require(records: Sequence[Record], kind: RecordKind) -> None:
    """Raise ConfigurationError, in one line, unless a record of this kind may come next."""
    refused = refusal(standing(records), kind)
    if refused is not None:
        raise ConfigurationError(refused)


def refusal(stands: Standing, kind: RecordKind) -> str | None:
    """Why a record of this kind may not come next. None: it may."""
    needed = _needed(stands, kind)
    if needed is None:
        return None
    return f"{_COMMANDS[kind]} needs {needed}; this migration is {state_text(stands.state)}"


def allowed(stands: Standing) -> frozenset[RecordKind]:
    """The kinds of records that may come next."""
    return frozenset(kind for kind in RecordKind if _needed(stands, kind) is None)


def _needed(stands: Standing, kind: RecordKind) -> str | None:
    """What is missing for a record of this kind, for "... needs ..."; None: nothing."""
    places, elsewhere = _PLACES[kind]
    if stands.state not in places:
        return elsewhere
    match kind:
        case RecordKind.CONVERGING | RecordKind.FROZEN if not stands.a_pass_ended:
            return "a pass that has ended: run the job first"
        case RecordKind.PROVING if not stands.ended_under_freeze:
            return "a pass that was planned under the freeze, and has ended"
        case RecordKind.APPROVED if not stands.proved:
            return "a proof, with nothing moved since"
        case RecordKind.SWITCHED if not stands.approved:
            return "a proof, and its approval"
    return None


def _after(stands: Standing, record: Record) -> Standing:
    """Where a migration stands after this record."""
    kind = record.kind
    if kind is RecordKind.PLANNED:
        return _with_a_plan(stands, _pass_number(record))
    if kind is RecordKind.PASS_ENDED:
        return _with_a_pass(stands, _pass_number(record))
    if kind is RecordKind.WITHDRAWN:
        is_it = stands.planned_under_freeze == _pass_number(record)
        return replace(stands, planned_under_freeze=None) if is_it else stands
    if kind is RecordKind.PROVED:
        return replace(stands, proved=stands.state is MigrationState.PROVING, approved=False)
    if kind is RecordKind.APPROVED:
        return replace(stands, approved=stands.proved)
    if kind in (RecordKind.STOPPED, RecordKind.VERIFIED):
        return stands
    if kind is RecordKind.PROVING:
        return replace(stands, state=MigrationState.PROVING, proved=False, approved=False)
    return Standing(state=_ENTERS[kind], a_pass_ended=stands.a_pass_ended)


def _with_a_plan(stands: Standing, number: int | None) -> Standing:
    """A pass under a freeze makes what was proved count no longer."""
    if stands.state in _UNDER_FREEZE:
        return Standing(
            state=MigrationState.FROZEN,
            a_pass_ended=stands.a_pass_ended,
            planned_under_freeze=number,
        )
    if stands.state is MigrationState.ROLLED_BACK:
        return replace(stands, state=MigrationState.CONVERGING)
    return stands


def _with_a_pass(stands: Standing, number: int | None) -> Standing:
    """A pass that was planned before a freeze is not the last one, whenever it ends."""
    ended = replace(stands, a_pass_ended=True)
    if stands.state is MigrationState.PLANNED:
        return replace(ended, state=MigrationState.COPYING)
    if stands.state is MigrationState.ROLLED_BACK:
        return replace(ended, state=MigrationState.CONVERGING)
    if stands.state in _UNDER_FREEZE:
        return replace(
            ended,
            state=MigrationState.FROZEN,
            ended_under_freeze=number is not None and number == stands.planned_under_freeze,
            proved=False,
            approved=False,
        )
    return ended


def _pass_number(record: Record) -> int | None:
    number = record.facts.get(PASS)
    return number if type(number) is int else None


def state_text(state: MigrationState) -> str:
    """The state for people, as in "this migration is ..."."""
    return "in grace" if state is MigrationState.GRACE else str(state).replace("_", " ")
