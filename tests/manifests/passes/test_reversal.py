"""Ways back against an oracle: a state with its ends exchanged, and what returns of it."""

from __future__ import annotations

import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from noria.manifests.job.directory import JobDirectory
from noria.manifests.passes import state as state_module
from noria.manifests.passes.delta import DeletionRules
from noria.manifests.passes.migration import Migration, WayBack
from noria.manifests.passes.reversal import RANGES_MAX, REVERSE_BASE, write_reversed
from noria.manifests.passes.state import State
from noria.manifests.plan.providers import NameRules
from tests.support.fabricated_passes import FabricatedMigration, Source, planned
from tests.support.rows import Row, plan

ESCAPED = partial(plan, rules=NameRules(backslash_is_slash=True), names="escape", shard_objects=4)
"""A target that stores names with a backslash under other names, which sort elsewhere."""
NAMES = ["a", "a\\b", "a/c", "b\\", "b", "é\\x", "\\first", "zz", "z\\z", "m", "~", "\U0010ffff\\"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few rows are many blocks and files."""
    monkeypatch.setattr(state_module, "BLOCK_ROWS", 3)
    monkeypatch.setattr(state_module, "BLOCKS_PER_FILE", 2)


def row(key: str, etag: str, size: int = 5) -> Row:
    return {"key": key, "size": size, "etag": etag, "last_modified": 1_700_000_000_000}


def source(**etags: str) -> Source:
    return {key: row(key, etag) for key, etag in etags.items()}


def rows_of(state: State) -> dict[str, Row]:
    """By key; raises if they are not sorted, as whoever walks through them needs."""
    rows = [each for block in state.blocks() for each in block.to_pylist()]
    keys = [each["key"].encode() for each in rows]
    assert keys == sorted(set(keys))
    return {each["key"]: each for each in rows}


class Life:
    """A migration and its ways back, with few objects."""

    def __init__(self, root: Path, *, mirror: bool = False) -> None:
        self.rules = DeletionRules(mirror=mirror)
        self.forward = FabricatedMigration(root, options=ESCAPED(), rules=self.rules)

    @property
    def migration(self) -> Migration:
        return self.forward.migration

    @property
    def state(self) -> dict[str, Row]:
        return rows_of(self.migration.state(self.forward.number))

    def copy(self, now: Source, failing: dict[str, str] | None = None) -> None:
        self.forward.settle(self.forward.plan(now), failing or {})

    def begin(self) -> WayBack:
        """As engine/rollback.py does it."""
        *_, back = self.migration.ways_back()
        place = back.migration.state_place(REVERSE_BASE)
        place.parent.mkdir(parents=True)
        write_reversed(self.migration.state(self.forward.number), place)
        job = {"id": back.root.name, "reverses": self.forward.number}
        JobDirectory.create(back.root, job)
        return back

    def target_listing(self) -> Source:
        """What a listing of the target shows, if nobody has written to it."""
        return {
            (each["target_key"] or key): row(
                each["target_key"] or key, each["target_etag"], each["size"]
            )
            for key, each in self.state.items()
        }

    def turn(self, back: WayBack) -> FabricatedMigration:
        """The passes of the way back, whose oracle begins with what it began with."""
        begun = rows_of(back.migration.state(REVERSE_BASE))
        names = [
            *("size", "source_etag", "source_version", "modified", "target_key", "target_etag"),
            *("written", "pass", "gone_since"),
        ]
        turned = FabricatedMigration(back.root, options=plan(shard_objects=4), rules=self.rules)
        turned.number = REVERSE_BASE
        turned.stands = {key: {name: each[name] for name in names} for key, each in begun.items()}
        return turned

    def end(self, back: WayBack) -> None:
        back.note_end()
        self.migration.forget(self.forward.number)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "move")


def test_the_ends_are_exchanged(life: Life) -> None:
    life.copy(source(**{"a": "s1", "x\\y": "s2"}))
    stood = life.state
    (name,) = {each["target_key"] for each in stood.values()} - {None}
    turned = rows_of(life.begin().migration.state(REVERSE_BASE))
    assert {key: each["target_key"] for key, each in turned.items()} == {"a": None, name: "x\\y"}
    for key, each in turned.items():
        before = stood[each["target_key"] or key]
        assert each["source_etag"] == before["target_etag"]
        assert each["target_etag"] == before["source_etag"]
        assert (each["size"], each["written"], each["modified"]) == (before["size"], True, None)
        assert (each["pass"], each["level"]) == (REVERSE_BASE, None)


def test_what_the_source_has_lost_does_not_stand_there(life: Life) -> None:
    life.copy(source(a="1", b="1"))
    life.copy(source(a="1"))
    turned = rows_of(life.begin().migration.state(REVERSE_BASE))
    assert turned["a"]["target_etag"] == "1"
    assert (turned["b"]["target_etag"], turned["b"]["source_etag"]) == (None, "t-b-1")


@pytest.mark.parametrize("mirror", [False, True])
def test_what_was_lost_at_both_ends_is_not_deleted_and_not_counted(
    tmp_path: Path, mirror: bool
) -> None:
    life = Life(tmp_path / "move")
    life.copy(source(a="1", b="1"))
    life.copy(source(a="1"))
    back = life.begin()
    turned = life.turn(back)
    turned.rules = DeletionRules(mirror=mirror)
    listing = life.target_listing()
    del listing["b"]
    manifest = turned.plan(listing)
    assert planned(manifest) == {}
    assert manifest.facts["delta"].get("gone", {"objects": 0})["objects"] == 0
    turned.settle(manifest)
    life.end(back)
    assert set(life.state) == {"a"}


def test_an_untouched_way_back_changes_nothing(life: Life) -> None:
    now = {name: row(name, f"e{n}") for n, name in enumerate(NAMES)}
    life.copy(now, {"a": "ALREADY_PRESENT", "m": "FAILED"})
    life.copy({name: each for name, each in now.items() if name not in ("b", "zz", "m")})
    stood = life.state
    back = life.begin()
    turned = life.turn(back)
    manifest = turned.plan(life.target_listing())
    assert planned(manifest) == {}
    turned.settle(manifest)
    life.end(back)
    assert life.state == stood


def test_what_it_moved_is_known_by_both_ends(life: Life) -> None:
    life.copy(source(a="1", b="1"), {"b": "ALREADY_PRESENT"})
    back = life.begin()
    turned = life.turn(back)
    listing = life.target_listing() | {"b": row("b", "by-a-user"), "new": row("new", "n")}
    manifest = turned.plan(listing)
    assert planned(manifest) == {"b": "etag", "new": "new"}
    turned.settle(manifest)
    life.end(back)
    state = life.state
    assert set(state) == {"a", "b", "new"}
    assert (state["b"]["target_etag"], state["b"]["source_etag"]) == ("by-a-user", "t-b-2")
    assert (state["new"]["written"], state["new"]["level"]) == (True, "ingested")
    assert state["b"]["pass"] == 1, "of the pass that it was reversed after"
    again = {**source(a="1"), "b": row("b", "t-b-2"), "new": row("new", "t-new-2")}
    assert planned(life.forward.plan(again)) == {}


def test_one_that_has_not_ended_changes_nothing(life: Life) -> None:
    life.copy(source(a="1"))
    stood = life.state
    back = life.begin()
    turned = life.turn(back)
    turned.settle(turned.plan({"a": row("a", "by-a-user")}))
    life.migration.forget(1)
    assert life.state == stood
    life.end(back)
    assert life.state != stood


@pytest.mark.parametrize("seed", range(10))
def test_several_lives_agree_with_the_oracle(tmp_path: Path, seed: int) -> None:
    """Passes, ways back of one or two passes, and all of it again."""
    draw = random.Random(seed)
    mirror = draw.random() < 0.5
    life = Life(tmp_path / "move", mirror=mirror)
    at_source = {name: row(name, f"e{draw.random()}") for name in draw.sample(NAMES, 8)}
    for _ in range(3):
        for _ in range(draw.choice([1, 2])):
            outcomes = {name: draw.choice(["ALREADY_PRESENT", "TRANSFERRED"]) for name in NAMES}
            life.copy(at_source, outcomes if draw.random() < 0.3 else None)
            live(at_source, NAMES, draw)
        life.copy(at_source)
        stood = life.state
        lost = {key for key, each in stood.items() if each["gone_since"] is not None}
        assert set(stood) == set(at_source) | lost
        back = life.begin()
        turned = life.turn(back)
        begun = rows_of(back.migration.state(REVERSE_BASE))
        at_target = life.target_listing()
        for _ in range(draw.choice([1, 2])):
            # An escaped name that is deleted and comes again is a name like any other.
            names = [n for n, each in begun.items() if n in at_target or not each["target_key"]]
            live(at_target, [*names, "new", "new/er"], draw)
            before = {key: dict(each) for key, each in turned.stands.items()}
            manifest = turned.plan(at_target)
            assert planned(manifest) == _expected(at_target, before, mirror=mirror)
            turned.settle(manifest)
        life.end(back)
        at_source = _apply(at_source, at_target, turned, mirror=mirror)
        _agrees(life.state, at_target, turned, stood)
        if mirror:
            assert (
                set(life.state) - lost
                == {
                    turned.stands[name]["target_key"] or name
                    for name in at_target
                    if name in turned.stands
                }
                - lost
            )
    _are_made_again(life)


def live(now: Source, names: list[str], draw: random.Random) -> None:
    """What users do to one end."""
    for name in draw.sample(names, min(5, len(names))):
        if name in now and draw.random() < 0.4:
            del now[name]
        else:
            now[name] = row(name, f"u{draw.random()}", draw.choice([5, 6]))


def _expected(now: Source, stands: dict[str, Row], *, mirror: bool) -> dict[str, str]:
    found = {}
    for key, each in now.items():
        if key not in stands:
            found[key] = "new"
        elif each["size"] != stands[key]["size"]:
            found[key] = "size"
        elif each["etag"] != stands[key]["source_etag"]:
            found[key] = "etag"
    if mirror:
        found |= {
            key: "gone"
            for key, each in stands.items()
            if key not in now and each["target_etag"] is not None
        }
    return found


def _apply(
    at_source: Source, at_target: Source, turned: FabricatedMigration, *, mirror: bool
) -> Source:
    """What the source holds after the way back."""
    after = dict(at_source)
    for name, each in turned.stands.items():
        home = each["target_key"] or name
        if each["target_etag"] is not None:
            after[home] = row(home, each["target_etag"], each["size"])
    if mirror:
        kept = {turned.stands[name]["target_key"] or name for name in turned.stands}
        after = {name: each for name, each in after.items() if name in kept}
    return after


def _agrees(
    state: dict[str, Row], at_target: Source, turned: FabricatedMigration, stood: dict[str, Row]
) -> None:
    """What stands is what was found at the target, and known by its names at the source."""
    expected = {}
    for name, listed in at_target.items():
        each = turned.stands[name]
        home = each["target_key"] or name
        expected[home] = (name, listed["size"], listed["etag"])
    found = {
        key: (each["target_key"] or key, each["size"], each["target_etag"])
        for key, each in state.items()
    }
    assert found == expected
    for name in at_target:
        each = turned.stands[name]
        home = each["target_key"] or name
        if each["pass"] == REVERSE_BASE:
            assert state[home] == stood[home], "what nobody touched is as it was"
        else:
            assert state[home]["source_etag"] == each["target_etag"]
            assert (state[home]["written"], state[home]["gone_since"]) == (True, None)


def _are_made_again(life: Life) -> None:
    """Bit for bit, from the seals of all passes and ways back."""
    places = [life.migration.state_place(each) for each in range(1, life.forward.number + 1)]

    def contents() -> list[bytes]:
        return [each.read_bytes() for place in places for each in sorted(place.iterdir())]

    for number in range(1, life.forward.number + 1):
        life.migration.state(number)
    made = contents()
    for place in places:
        shutil.rmtree(place)
    life.migration.state(life.forward.number)
    assert contents() == made


def test_names_that_sort_elsewhere_are_sorted_over_many_ranges(life: Life) -> None:
    names = [f"{n:02d}{mark}" for n in range(20) for mark in ("0", "\\")]
    life.copy({name: row(name, "e") for name in names})
    assert len(life.migration.state(1).ranges(RANGES_MAX).splits) > 5
    turned = rows_of(life.begin().migration.state(REVERSE_BASE))
    assert {each["target_key"] or key for key, each in turned.items()} == set(names)
