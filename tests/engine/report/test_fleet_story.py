"""What a report tells of many datasets: what all come to, and a line for each."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from noria.engine.report.document import Story, tell
from noria.engine.report.fleet_document import FleetStory, tell_all
from noria.engine.report.fleet_page import fleet_page
from noria.engine.report.fleet_words import stands, verdict
from noria.manifests.errors import ConfigurationError
from noria.manifests.job import control
from noria.manifests.job.control import ControlKind
from noria.manifests.job.directory import JobDirectory
from tests.support.commands import noria
from tests.support.report_pages import links, shown

OBJECTS = {"one": {"a": "first", "secret-name": "second"}, "two": {"b": "third"}}
REFUSED = "without-a-source"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets that were moved, and one whose source is not there."""
    folder = tmp_path_factory.mktemp("many")
    lines = ["[run]", "workers = 2", "leases = 3", ""]
    for name in (*OBJECTS, REFUSED):
        lines += ["[[datasets]]", f'name = "{name}"', f'source = "{folder}/in/{name}"']
        lines += [f'target = "{folder}/out/{name}"', ""]
        for key, value in OBJECTS.get(name, {}).items():
            (folder / "in" / name).mkdir(parents=True, exist_ok=True)
            (folder / "in" / name / key).write_text(value)
    (folder / "many.toml").write_text("\n".join(lines))
    code, _, err = noria("run", folder / "many.toml", "-q")
    assert code == 1, err
    return folder / "many"


@pytest.fixture
def many(moved: Path, tmp_path: Path) -> Path:
    """Their directory, which a test may change."""
    return Path(shutil.copytree(moved, tmp_path / "a <b> & c"))


def told(many: Path) -> FleetStory:
    return tell_all(many, show_keys=False, on_story=lambda name, story: None)


def test_all_come_to_what_each_comes_to(many: Path) -> None:
    stories: dict[str, Story] = {}
    story = tell_all(many, show_keys=False, on_story=stories.__setitem__)
    assert list(stories) == ["one", "two"]
    assert (story.objects, story.bytes) == (3, 16)
    assert story.levels == {"ingested": 3}
    for name, each in zip(stories, story.datasets, strict=False):
        alone = stories[name]
        assert alone.standing == tell(many / "datasets" / name, show_keys=False).standing
        assert (each.name, each.objects) == (name, alone.standing.objects)
        assert not each.open_matters
        assert each.is_reconciled
    slots, classes = Counter[int](), Counter[int]()
    for alone in stories.values():
        for slot in alone.timeline:
            slots[slot.begins // story.timeline[0].seconds] += slot.bytes
        classes.update({each.below: each.objects for each in alone.sizes})
    length = story.timeline[0].seconds
    assert {slot.begins // length: slot.bytes for slot in story.timeline} == slots
    assert {each.below: each.objects for each in story.sizes if each.objects} == classes


def test_a_dataset_that_did_not_go_on_is_said_with_its_reason(many: Path) -> None:
    story = told(many)
    (refused,) = story.open_datasets
    assert (refused.name, refused.open_matters) == (REFUSED, {"refused": 1})
    text = shown(fleet_page(story))
    assert "A person has to look at 1 of 3 datasets." in text
    assert f"{REFUSED} it did not go on: source file://" in text
    assert "2 of 3 datasets : " not in text
    assert "2 of 3 datasets: their targets were listed after the last pass" in text
    assert "2 of 3 datasets have objects that were not read back" in text
    assert "secret-name" not in text


def test_the_command_writes_a_page_that_leads_to_each_ones_own(many: Path) -> None:
    for _ in range(2):
        code, out, _ = noria("report", many)
        assert code == 0
        assert "A person has to look at 1 of 3 datasets." in out
    page = (many / "report.html").read_text()
    assert set(links(page)) == {f"datasets/{name}/report.html" for name in OBJECTS}
    for name in OBJECTS:
        assert {"report.html", "report.json", "evidence.md"} <= {
            each.name for each in (many / "datasets" / name).iterdir()
        }
    document = json.loads((many / "report.json").read_bytes())
    assert (document["edition"], document["objects"]) == (1, 3)
    code, out, _ = noria("report", many, "--json")
    assert code == 0
    assert json.loads(out)["datasets"] == document["datasets"]


def test_elsewhere_the_page_leads_to_what_lies_beside_it(many: Path, tmp_path: Path) -> None:
    code, _, _ = noria("report", many, "--output", tmp_path / "reports", "--show-keys")
    assert code == 0
    assert not (many / "report.html").exists()
    places = links((tmp_path / "reports" / "report.html").read_text())
    assert places
    assert all((tmp_path / "reports" / place).is_file() for place in places)


def test_with_json_nothing_is_written(many: Path) -> None:
    before = sorted(many.rglob("*"))
    code, _, _ = noria("report", many, "--json")
    assert code == 0
    assert sorted(many.rglob("*")) == before


def test_one_that_cannot_be_read_is_said_and_the_others_are_told(many: Path) -> None:
    (damaged,) = (many / "datasets" / "one" / "results").rglob("*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    code, out, err = noria("report", many)
    assert code == 1, err
    assert "A person has to look at 2 of 3 datasets." in out
    story = told(many)
    assert story.objects == 1
    text = shown(fleet_page(story))
    assert "one its directory cannot be read: " in text
    assert links(fleet_page(story)) == ["datasets/two/report.html"]


def test_what_was_read_back_is_told_of_those_of_which_all_was(moved: Path) -> None:
    code, _, _ = noria("verify", moved / "datasets" / "two", "-q")
    assert code == 0
    text = shown(fleet_page(told(moved)))
    assert "1 of 3 datasets: every object that stands at their targets was read back" in text
    assert "1 of 3 datasets have objects that were not read back" in text


def test_what_was_asked_of_all_is_told(many: Path) -> None:
    files = JobDirectory(many)
    control.append(files, ControlKind.SET, {"bandwidth": 2e8}, reason="a <lecture>", by="ann@m")
    control.append(JobDirectory(many / "datasets" / "two"), ControlKind.PAUSE, by="bob@m")
    text = shown(fleet_page(told(many)))
    assert "ann@m set bandwidth=200MB/s a <lecture>" in text
    assert "bob@m paused" not in text, "of one alone: in its own report"


def test_settings_that_all_share_are_told(many: Path) -> None:
    named = {each.name: each.value for each in told(many).settings}
    assert (named["run.workers"], named["run.leases"]) == (2, 3)
    assert not any(name.startswith(("source.", "target.")) for name in named)


def test_a_directory_of_one_job_has_no_datasets(many: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no datasets"):
        told(many / "datasets" / "one")


def test_one_whose_plan_has_not_ended_is_not_said_to_be_damaged(many: Path) -> None:
    place = many / "datasets" / "one"
    for part in ("sealed", "results"):
        shutil.rmtree(place / part)
    for file in ("manifest/manifest.json", "status.json", "reconcile.json"):
        (place / file).unlink()
    one = told(many).datasets[0]
    assert one.open_matters == {"not_planned": 1}
    code, out, _ = noria("report", many)
    assert (code, "2 of 3 datasets" in out) == (0, True)


def test_lost_receipts_of_one_are_an_open_matter_of_all(many: Path) -> None:
    shutil.rmtree(many / "datasets" / "one" / "sealed")
    assert [each.open_matters for each in told(many).datasets[:2]] == [{"unsettled": 2}, {}]


def test_one_that_is_rolled_back_does_not_stand_as_finished(many: Path) -> None:
    story = told(many)
    back = replace(story.datasets[0], state="rolled_back")
    assert stands(back) == "rolled back"
    assert stands(story.datasets[0]) == "finished"


def test_no_datasets_are_no_good_news(many: Path) -> None:
    in_order, said = verdict(replace(told(many), datasets=()))
    assert (in_order, said) == (False, "There are no datasets yet: nothing was moved.")


def test_a_pass_that_finds_nothing_new_is_done(many: Path) -> None:
    for _ in range(2):
        code, _, _ = noria("sync", many / "datasets" / "two", "-q")
        assert code == 0
    code, out, _ = noria("status", many)
    (line,) = [line for line in out.splitlines() if line.startswith("two ")]
    assert (code, line.split()[1:6]) == (0, ["finished", "3", "0", "100.0", "%"])
