"""What a report tells of a migration, and the page that shows it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noria.engine.proof.signing import SigningWishes, sign
from noria.engine.proof.stamping import stamp
from noria.engine.report import page as report_page
from noria.engine.report.document import tell
from noria.engine.report.evidence import evidence
from noria.engine.report.page import page
from noria.engine.retire import retire
from noria.engine.terminal.figures import time_text
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job import control
from noria.manifests.job.control import ControlKind
from noria.manifests.job.directory import JobDirectory
from tests.support.commands import noria
from tests.support.local_migrations import LocalMigration, write
from tests.support.report_pages import shown
from tests.support.time_stamping import time_stamping

OBJECTS = {"a": "first", "d/secret-name": "second", "d/c": "third"}


def killed(ready: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def move(tmp_path: Path) -> LocalMigration:
    migration = LocalMigration(tmp_path / "a <b> & c")
    migration.copy(OBJECTS)
    return migration


def test_a_first_pass_is_told_by_its_receipts(move: LocalMigration) -> None:
    story = tell(move.root, show_keys=False)
    assert (story.standing.objects, story.standing.bytes) == (3, 16)
    assert story.standing.levels == {"ingested": 3}
    assert sum(slot.objects for slot in story.timeline) == 3
    assert story.open_matters == {}
    text = shown(page(story))
    assert "nothing is missing, nothing differs" in text
    assert "3 objects that stand there were not read back" in text
    assert "a <b> & c" in text
    assert "secret-name" not in text


def test_settings_are_those_of_the_job_and_not_of_who_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS, run={"bandwidth": "40MB/s", "leases": 3})
    monkeypatch.setenv("AWS_REGION", "eu-1")
    told = {each.name: each.value for each in tell(move.root, show_keys=False).settings}
    assert told == {
        "source.url": f"file://{move.source}",
        "target.url": f"file://{move.target}",
        "run.bandwidth": 40e6,
        "run.leases": 3,
    }
    assert "run.bandwidth 40000000.0 bytes/s" in shown(page(tell(move.root, show_keys=False)))


def test_later_passes_are_told_by_what_stands(move: LocalMigration) -> None:
    write(move.source, {"a": "changed", "n": "new"})
    (move.source / "d/c").unlink()
    move.sync(mirror=True, any_number=True)
    story = tell(move.root, show_keys=False)
    assert [each.number for each in story.passes] == [1, 2]
    assert (story.standing.objects, story.standing.bytes) == (3, 16)
    assert sum(each.objects for each in story.sizes) == 5, "all that ever landed"
    text = shown(page(story))
    assert "1 new, 1 changed, 1 gone" in text
    assert story.history["head"] in text


def test_what_was_asked_for_is_told_with_who_and_why(move: LocalMigration) -> None:
    assert "What was asked for" not in page(tell(move.root, show_keys=False))
    directory, at = JobDirectory(move.root), datetime(2026, 11, 28, 7, 20, 14, tzinfo=UTC)
    control.append(
        directory,
        ControlKind.SET,
        {"bandwidth": 2e8, "priority.genomes": 5},
        until=at + timedelta(hours=2),
        reason="a <lecture>",
        by="ann@mover-1",
        at=at,
    )
    control.append(directory, ControlKind.CLEAR, by="bob@mover-1", at=at)
    control.append(directory, ControlKind.PAUSE, by="bob@mover-1", at=at)
    story = tell(move.root, show_keys=False)
    assert [each.kind for each in story.steering] == ["set", "clear", "pause"]
    text = shown(page(story))
    assert (
        "1 2026-11-28 07:20:14 ann@mover-1 set bandwidth=200MB/s, priority.genomes=5 "
        "until 2026-11-28 09:20:14 a <lecture>" in text
    )
    assert "bob@mover-1 took back all that was set" in text
    assert "bob@mover-1 paused" in text


def test_what_a_script_asked_for_all_day_does_not_fill_the_page(
    move: LocalMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "STEERING_SHOWN", 2)
    for workers in range(5):
        control.append(JobDirectory(move.root), ControlKind.SET, {"workers": workers})
    text = shown(page(tell(move.root, show_keys=False)))
    assert "The last 2; report.json has 3 more." in text
    assert "workers=3" in text
    assert "workers=2" not in text


def test_what_was_read_back_is_told_and_what_came_later_is_not_covered(
    move: LocalMigration,
) -> None:
    move.verify()
    told = tell(move.root, show_keys=False)
    assert told.read_back is not None
    assert told.read_back.objects == 3
    assert "not read back" not in shown(page(told))


def test_damage_is_an_open_matter(move: LocalMigration) -> None:
    (move.target / "a").unlink()
    move.verify()
    story = tell(move.root, show_keys=False)
    assert story.open_matters == {"damaged": 1}
    text = shown(page(story))
    assert "A person has to look at this: 1 that were found damaged" in text
    assert "gone from the target" in text


def test_a_pass_that_has_not_ended_is_said(move: LocalMigration) -> None:
    write(move.source, {"n": "new"})
    move.run = killed
    with pytest.raises(KeyboardInterrupt):
        move.sync()
    story = tell(move.root, show_keys=False)
    assert story.open_matters == {"not_ended": 1}
    assert "the last pass has not ended" in shown(page(story))


def test_failures_are_listed_by_pseudonym(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    (tmp_path / "target/d/secret-name").mkdir(parents=True)
    move.copy(OBJECTS)
    story = tell(move.root, show_keys=False)
    assert story.open_matters["failed"] == 1
    text = shown(page(story))
    assert "secret-name" not in text
    assert story.failures[0].name in text
    assert "secret-name" in shown(page(tell(move.root, show_keys=True)))


def test_a_pass_is_not_reported_alone(move: LocalMigration) -> None:
    move.sync()
    with pytest.raises(ConfigurationError, match="name the migration"):
        tell(move.migration.place(2), show_keys=False)


def test_the_command_writes_both_files_and_may_be_repeated(move: LocalMigration) -> None:
    for _ in range(2):
        code, out, _ = noria("report", move.root)
        assert code == 0
        assert "report.html" in out
    document = json.loads((move.root / "report.json").read_bytes())
    assert document["edition"] == 1
    assert document["standing"]["objects"] == 3
    code, out, _ = noria("report", move.root, "--json")
    assert code == 0
    assert json.loads(out)["passes"] == document["passes"]


def test_a_place_that_cannot_be_written_is_named(move: LocalMigration, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = noria("report", move.root, "--output", tmp_path / "file")
    assert code == 2
    assert "name another place with --output" in err


def test_evidence_leaves_open_what_noria_does_not_know(move: LocalMigration) -> None:
    move.verify()
    code, out, _ = noria("report", move.root)
    assert (code, "evidence.md" in out) == (0, True)
    text = (move.root / "evidence.md").read_text()
    assert "secret-name" not in text
    assert "| purpose | *to be filled in: Noria does not know it* |" in text
    assert "| 16 B | 0 B |" in text
    assert "| 16 B | 16 B |" in text, "a verification does not count the moves again"
    assert "The source has not been given up yet" in text


def test_a_retired_source_is_told_with_what_a_person_has_to_see_to(move: LocalMigration) -> None:
    move.switch()
    retire(move.migration, "Ann", move.said.append)
    text = evidence(tell(move.root, show_keys=False))
    assert "3 objects still there" in text
    assert "- [ ] keys that encrypted it are destroyed" in text


def test_who_signed_is_told_and_not_vouched_for(tmp_path: Path) -> None:
    move = LocalMigration(tmp_path)
    move.copy(OBJECTS)
    assert tell(move.root, show_keys=False).checkpoints == []
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(command, check=True)
    signed = sign(move.migration, SigningWishes(key=tmp_path / "key", name="example.eu/mover"))
    story = tell(move.root, show_keys=False)
    root = signed.kept.checkpoint.root.hex()
    said = "All 3 receipts of pass 1 are in checkpoint 1, signed in the name of example.eu/mover"
    for text in (shown(page(story)), " ".join(evidence(story).split())):
        assert said in text
        assert root in text
        assert "time stamp" not in text
    with time_stamping(tmp_path / "authority") as authority:
        stamped = stamp(move.migration, authority.url)
    said = f"Checkpoint 1 has a time stamp of {time_text(stamped.seconds)} UTC"
    told = tell(move.root, show_keys=False)
    for text in (shown(page(told)), " ".join(evidence(told).split())):
        assert said in text


def test_what_two_verifications_read_back_is_not_added_up(move: LocalMigration) -> None:
    move.verify()
    write(move.source, {"n": "new"})
    move.sync()
    move.verify()
    story = tell(move.root, show_keys=False)
    assert story.read_back is not None
    assert (story.read_back.objects, story.standing.objects) == (4, 4)


def test_a_cause_that_a_plan_and_an_inventory_have_is_counted_twice(move: LocalMigration) -> None:
    story = tell(move.root, show_keys=False)
    last = replace(story.last, left_out={"not_current": 2}, passed_over={"not_current": 3})
    assert "5 entries of the last inventory" in shown(page(replace(story, passes=[last])))


def test_a_receipt_that_is_lost_is_an_open_matter(move: LocalMigration) -> None:
    write(move.source, {"n": "new"})
    move.sync()
    for place, lost in ((move.root, 3), (move.root / "passes/000002", 4)):
        for seal in (place / "sealed").rglob("*.json"):
            seal.unlink()
        story = tell(move.root, show_keys=False)
        assert story.open_matters == {"unsettled": lost}
    assert "A person has to look at this: 4 of passes that have ended have no receipt" in shown(
        page(story)
    )


def test_while_a_later_pass_is_planned_what_stood_before_is_told(move: LocalMigration) -> None:
    write(move.source, {"a": "changed", "n": "new"})
    move.sync()
    stood = tell(move.root, show_keys=False).standing
    write(move.source, {"a": "changed again", "m": "later"})
    move.run = killed
    with pytest.raises(KeyboardInterrupt):
        move.sync()
    assert tell(move.root, show_keys=False).standing == stood, "a replaced object counts once"
    (move.root / "passes/000003/manifest/manifest.json").unlink()
    story = tell(move.root, show_keys=False)
    assert (story.standing, len(story.passes)) == (stood, 2)
    assert story.open_matters == {"half_planned": 1}
    assert "another pass is begun, and its plan has not ended" in shown(page(story))
    assert "has not ended" in evidence(story)


def test_a_pass_that_is_gone_is_missed(move: LocalMigration) -> None:
    write(move.source, {"n": "new"})
    move.sync()
    (move.root / "passes").rename(move.folder / "lost")
    with pytest.raises(JobDirectoryError, match="000002 has lost what its history tells of"):
        tell(move.root, show_keys=False)


def test_before_there_is_a_plan_there_is_nothing_to_tell(move: LocalMigration) -> None:
    for part in ("manifest", "sealed"):
        (move.root / part).rename(move.folder / part)
    with pytest.raises(ConfigurationError, match="has no plan yet"):
        tell(move.root, show_keys=False)


def test_a_report_that_cannot_be_put_in_place_leaves_nothing_behind(move: LocalMigration) -> None:
    (move.root / "report.html").mkdir()
    code, _, err = noria("report", move.root)
    assert code == 2
    assert "cannot write to" in err
    assert not list(move.root.glob(".report*"))
