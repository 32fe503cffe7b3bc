"""A migration's history and passes, as people see them: also on 60 columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from noria.engine.convergence import (
    Amount,
    Freeze,
    Obstacle,
    PassSummary,
    SyncAction,
    SyncStep,
)
from noria.engine.terminal.history_report import (
    WHAT,
    forecast_text,
    freeze_text,
    history_lines,
    history_summary,
    obstacle_text,
    passes_lines,
    passes_summary,
    print_history,
    print_passes,
    step_text,
    what_text,
)
from noria.manifests.job.history import Fact, Record, RecordKind

ROOT = Path("job")


def a_record(number: int, kind: RecordKind, facts: dict[str, Fact], by: str) -> Record:
    return Record(
        number=number,
        kind=kind,
        at=f"2026-11-28T07:2{number}:14Z",
        by=by,
        previous="0" * 64,
        facts=facts,
        digest=f"{number}" * 64,
    )


def records(by: str = "ann@mover-1") -> list[Record]:
    return [
        a_record(1, RecordKind.PLANNED, {"pass": 1}, by),
        a_record(2, RecordKind.PASS_ENDED, {"bytes_moved": 3_400_000_000, "pass": 1}, by),
        a_record(3, RecordKind.FROZEN, {"command": "freeze", "exit_code": 0}, by),
    ]


def a_pass(number: int, **values: object) -> PassSummary:
    started = 1_700_000_000.0 + 3600 * number
    summary = PassSummary(
        number=number,
        started_seconds=started,
        ended_seconds=started + 360,
        listing_seconds=100,
        moving_seconds=200,
        reconciling_seconds=50,
        new=Amount(objects=1_204, bytes=3_400_000_000),
        changed=Amount(objects=310, bytes=1_200_000),
        gone=Amount(objects=5, bytes=5_000),
        unchanged=Amount(objects=1_000_000, bytes=10**12),
    )
    return replace(summary, **values)  # type: ignore[arg-type]  # of any field


PASSES = [a_pass(number) for number in (1, 2, 3)]


# -- the history -----------------------------------------------------------------------------------


def test_each_record_has_a_line() -> None:
    assert list(history_lines(history_summary(records(), ROOT), None)) == [
        "   when (UTC)           digest        who          what",
        "1  2026-11-28 07:21:14  111111111111  ann@mover-1  pass 1 is being planned",
        "2  2026-11-28 07:22:14  222222222222  ann@mover-1  pass 1 ended: 3.40 GB moved",
        "3  2026-11-28 07:23:14  333333333333  ann@mover-1  the source is frozen: by freeze",
        "this migration is frozen",
        "no record is signed: --signing-key FILE signs those to come",
        "write down the last digest: as long as a history has it, nothing up to it was changed",
        "3" * 64,
    ]


def test_on_60_columns_a_record_has_several() -> None:
    lines = list(history_lines(history_summary(records(by="ann@" + "mover" * 20), ROOT), 60))
    assert lines[:2] == ["   when (UTC)           digest", "1  2026-11-28 07:21:14  111111111111"]
    assert all(len(line) <= 60 for line in lines[:-1])
    assert lines[-1] == "3" * 64, "a digest is never cut"
    told = " ".join(" ".join(lines).split())
    assert "ed: 3.40 GB moved" in told


def test_a_short_history_keeps_its_table_on_a_wide_terminal() -> None:
    summary = history_summary(records(), ROOT)
    assert list(history_lines(summary, 120)) == list(history_lines(summary, None))


def test_a_migration_without_records_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_history(history_summary([], ROOT))
    assert capsys.readouterr().out == "job has no history yet: no pass was recorded\n"


def test_a_history_is_a_document_too() -> None:
    found = json.loads(json.dumps(history_summary(records(), ROOT)))
    assert found["state"] == "frozen"
    assert found["head"] == "3" * 64
    assert found["records"][1] == {
        "number": 2,
        "kind": "pass_ended",
        "at": "2026-11-28T07:22:14Z",
        "by": "ann@mover-1",
        "previous": "0" * 64,
        "facts": {"bytes_moved": 3_400_000_000, "pass": 1},
        "digest": "2" * 64,
        "key": None,
        "signature": None,
    }


def test_who_signed_and_what_is_not_signed_is_said() -> None:
    one, two, three = records()
    signed = [one, replace(two, key="ab" * 32), replace(three, key="cd" * 32)]
    lines = list(history_lines(history_summary(signed, ROOT), None))
    assert [line.endswith("; not signed") for line in lines[1:4]] == [True, False, False]
    assert lines[-3] == (
        "1 record signed with key abababababab, 1 record signed with key cdcdcdcdcdcd, 1 not signed"
    )


def test_a_pass_that_ended_says_in_short_what_it_did() -> None:
    facts: dict[str, Fact] = {
        "bytes_moved": 1500,
        "changed_objects": 310,
        "failed": 0,
        "manifest": "ab" * 32,
        "moving_seconds": 3.5,
        "new_objects": 1_204,
        "pass": 2,
        "started": 1_700_000_000.0,
    }
    assert what_text(RecordKind.PASS_ENDED, facts) == (
        "pass 2 ended: 1,204 new, 310 changed, 1.50 kB moved"
    )


def test_a_pass_that_moved_nothing_says_so() -> None:
    facts: dict[str, Fact] = {"pass": 4, "new_objects": 0, "bytes_moved": 0, "failed": 0}
    assert what_text(RecordKind.PASS_ENDED, facts) == "pass 4 ended: nothing new"


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        (
            RecordKind.FROZEN,
            {"evidence": "quiet", "apart_seconds": 600.0, "objects": 5, "pass": 2},
            "the source is frozen: two equal listings 10 min 0 s apart, 5 objects",
        ),
        (
            RecordKind.PROVED,
            {"bytes": 45, "extra": 0, "level_ingested": 5, "objects": 5, "reread": 5, "state": "a"},
            "the target has what the source has: 5 objects, 45 B, 5 read back, 5 ingested",
        ),
        (
            RecordKind.APPROVED,
            {"key": "ab" * 32, "name": "Ann", "signature": "cd" * 64},
            "the switch is approved: by Ann, signed with key abababababab",
        ),
        (
            RecordKind.ROLLED_BACK,
            {"deleted_objects": 0, "moved_objects": 2, "switched": True, "way_back": "000001"},
            "the source is in use again: 2 moved to the source, as in ways-back/000001",
        ),
    ],
)
def test_records_of_a_cutover_read_as_sentences(
    kind: RecordKind, facts: dict[str, Fact], said: str
) -> None:
    assert what_text(kind, facts) == said


def test_every_kind_of_record_has_words() -> None:
    assert set(WHAT) == set(RecordKind)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "the switch is approved"),
        ({"head": "ab" * 32}, "the switch is approved: head abababababab"),
        ({"took_seconds": 4000.0}, "the switch is approved: took 1 h 6 min"),
        ({"bytes": 0, "new_bytes": 1500}, "the switch is approved: new bytes 1.50 kB"),
        ({"objects": 1_234_567, "left": None}, "the switch is approved: 1,234,567 objects"),
        ({"forced": True, "late": False}, "the switch is approved: forced yes, late no"),
    ],
)
def test_facts_are_said_in_their_units(facts: dict[str, Fact], said: str) -> None:
    assert what_text(RecordKind.APPROVED, facts) == said


# -- passes ----------------------------------------------------------------------------------------


def test_each_pass_has_a_line_and_the_forecast_is_below() -> None:
    lines = list(passes_lines(passes_summary(PASSES), None))
    assert lines[:2] == [
        "pass  ended (UTC)          took       lag        what it found at the source",
        "1     2023-11-14 23:19:20  6 min 0 s  6 min 0 s  1,204 new (3.40 GB), "
        "310 changed (1.20 MB), 5 gone (5.00 kB)",
    ]
    assert lines[4:] == [
        "changes at the source: 0.42 objects/s (between 0.42 and 0.42), 945 kB/s (between "
        "945 kB/s and 945 kB/s); passes move 7.6 objects/s, 17.0 MB/s",
        "a freeze of about 3 min (between 2 and 7) would be enough",
    ]


def test_passes_fit_on_60_columns() -> None:
    lines = list(passes_lines(passes_summary(PASSES), 60))
    assert max(map(len, lines)) <= 60
    assert lines[1:4] == [
        "1     2023-11-14 23:19:20  6 min 0 s  6 min 0 s",
        "      1,204 new (3.40 GB), 310 changed (1.20 MB), 5 gone",
        "      (5.00 kB)",
    ]


def test_a_pass_that_found_nothing_and_one_that_failed_say_so() -> None:
    idle = a_pass(1, new=Amount(), changed=Amount(), gone=Amount())
    failing = replace(idle, failed=3)
    assert list(passes_lines(passes_summary([idle]), None))[1].endswith("  nothing new")
    assert list(passes_lines(passes_summary([failing]), None))[1].endswith("  3 failed")


def test_without_two_passes_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    said = "how long a freeze would do is not known yet: {} to end first"
    assert forecast_text(passes_summary([])) == said.format("2 more passes have")
    print_passes(passes_summary(PASSES[:1]))
    assert capsys.readouterr().out.splitlines()[-1] == said.format("one more pass has")


def test_a_lag_that_grows_is_told() -> None:
    longer = [
        replace(each, ended_seconds=each.ended_seconds + 100 * each.number) for each in PASSES
    ]
    lines = list(passes_lines(passes_summary(longer), None))
    assert "the lag was longer after each of the last three passes than before" in lines


def test_passes_that_do_not_catch_up_are_told() -> None:
    racing = [
        replace(each, moving_seconds=4000, ended_seconds=each.ended_seconds + 3800)
        for each in PASSES
    ]
    told = "\n".join(passes_lines(passes_summary(racing), None))
    assert "the source changes faster than passes move what has changed" in told


def test_passes_are_a_document_too() -> None:
    found = json.loads(json.dumps(passes_summary(PASSES), allow_nan=False))
    assert [each["number"] for each in found["passes"]] == [1, 2, 3]
    assert found["passes"][0]["new"] == {"objects": 1_204, "bytes": 3_400_000_000}
    assert found["passes"][0]["lag_seconds"] == found["passes"][0]["took_seconds"] == 360
    assert found["convergence"]["catches_up"] is True
    assert set(found["freeze"]) == {"seconds", "low", "high"}
    assert (found["missing_passes"], found["lag_grows"]) == (0, False)
    later = passes_summary(PASSES, frozen_at=PASSES[-1].ended_seconds + 3600)
    assert later["freeze"]["seconds"] > found["freeze"]["seconds"] + 100


@pytest.mark.parametrize(
    ("seconds", "low", "high", "said"),
    [
        (2280, 1830, 3270, "about 38 min (between 30 and 55)"),
        (12.4, 9.9, 30.2, "about 12 s (between 9 and 31)"),
        (100, 80, 130, "about 2 min (between 1 and 3)"),
        (10_000, 9_000, 12_000, "about 167 min (between 150 and 200)"),
        (1e5, 8e4, 2e5, "about 28 h (between 22 and 56)"),
        (0, 0, 0, "about 0 s (between 0 and 0)"),
    ],
)
def test_a_freeze_is_said_in_one_unit(seconds: float, low: float, high: float, said: str) -> None:
    text = freeze_text(Freeze(seconds=seconds, low=low, high=high))
    assert text == f"a freeze of {said} would be enough"


# -- what a sync does next -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (SyncStep(action=SyncAction.RUN), "no pass has ended yet: one is run now"),
        (
            SyncStep(action=SyncAction.RUN, lag_seconds=1200),
            "the lag is 20 min 0 s: a pass is run now",
        ),
        (
            SyncStep(action=SyncAction.WAIT, lag_seconds=1200, wait_seconds=60),
            "the lag is 20 min 0 s: the next pass begins in 1 min 0 s",
        ),
        (
            SyncStep(action=SyncAction.REACHED, lag_seconds=300),
            "the lag is 5 min 0 s, as it was wanted",
        ),
    ],
)
def test_a_step_is_one_line(step: SyncStep, said: str) -> None:
    assert step_text(step) == said


def test_every_obstacle_is_one_line() -> None:
    step = SyncStep(action=SyncAction.RUN, lag_seconds=1200)
    assert obstacle_text(step) is None
    for obstacle in Obstacle:
        steady = 900.0 if obstacle is Obstacle.PASSES_TOO_LONG else None
        told = obstacle_text(replace(step, obstacle=obstacle, steady_lag_seconds=steady))
        assert told is not None
        assert "\n" not in told
    assert obstacle_text(replace(step, steady_lag_seconds=900.0)) == (
        "passes come to a lag of about 15 min 0 s, and not below: begin them more often, or ask "
        "for a longer lag"
    )


def test_no_line_is_longer_than_the_terminal() -> None:
    for columns in range(50, 120, 7):
        lines = [
            *list(history_lines(history_summary(records(), ROOT), columns))[:-1],
            *passes_lines(passes_summary(PASSES), columns),
        ]
        assert max(map(len, lines)) <= columns
