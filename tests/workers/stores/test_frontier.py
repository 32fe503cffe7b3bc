"""Whatever the order of a store and its ways with `after` and markers: each name once."""

from __future__ import annotations

import bisect
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from noria.manifests.errors import NoriaError, StoreUnavailable, TargetRefused
from noria.workers.stores.frontier import Errand, Frontier, ListingState
from noria.workers.stores.listing import inventory_batch
from noria.workers.stores.midpoints import branch, middle
from noria.workers.stores.protocol import Page, PageRequest

Order = Callable[[str], Any]
LAST = "\U0010ffff" * 9
"""No name that begins like another one comes after that one followed by this."""


def by_bytes(name: str) -> bytes:
    return name.encode()


def by_utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def by_folders(name: str) -> list[str]:
    return name.split("/")


def by_hash(name: str) -> bytes:
    return hashlib.md5(name.encode(), usedforsecurity=False).digest()


@dataclass(slots=True, kw_only=True)
class OrderedStore:
    """Lists names in an order, in pages; `after` means a place in that order."""

    names: list[str]
    order: Order = by_bytes
    page_rows: int = 10
    honours_after: bool | None = True
    """None: refuses it."""
    tokens: str = "portable"
    """portable: taken with any prefix; bound: of one alone, else ignored; refused: of one alone;
    sticky: it says which prefix is listed, whatever the request says.
    """
    empty_pages: bool = False
    _sorted: list[tuple[Any, str]] = field(default_factory=list)

    def change(self, names: list[str]) -> None:
        self.names = names
        self._sorted = []

    def fetch(self, request: PageRequest) -> Page:
        if len(self._sorted) != len(self.names):
            self._sorted = sorted((self.order(name), name) for name in self.names)
        place = self._place(request)
        if self.tokens == "sticky" and request.marker is not None:
            request = replace(request, prefix=request.marker.partition("\0")[0])
        if self.empty_pages and request.after is not None and request.marker is None:
            return page_of([], f"{request.prefix}\0{place}")
        start = 0
        if place is not None:
            start = bisect.bisect_right(self._sorted, (self.order(place), LAST))
        found: list[str] = []
        marker = through = None
        for _, name in self._sorted[start:]:
            if not name.startswith(request.prefix):
                continue
            stem, slash, _ = name[len(request.prefix) :].partition("/")
            entry = name if request.deep else request.prefix + stem + slash
            if entry not in found[-1:]:
                if len(found) == self.page_rows:
                    marker = f"{request.prefix}\0{through}"
                    break
                found.append(entry)
            through = name
        below = [name for name in found if not request.deep and "/" in name[len(request.prefix) :]]
        return page_of([name for name in found if name not in below], marker, below)

    def _place(self, request: PageRequest) -> str | None:
        """The name that the page begins after."""
        if request.marker is not None:
            owner, _, place = request.marker.partition("\0")
            if owner == request.prefix or self.tokens in ("portable", "sticky"):
                return place
            if self.tokens == "refused":
                raise TargetRefused("a token of another listing")
            return None
        if request.after is None or self.honours_after is False:
            return None
        if self.honours_after is None:
            raise TargetRefused("an unknown parameter")
        return request.after


def page_of(keys: list[str], marker: str | None, prefixes: list[str] | None = None) -> Page:
    batch = inventory_batch({"key": keys, "size": ["1"] * len(keys)}, len(keys))
    return Page(batch=batch, prefixes=prefixes or [], next_marker=marker)


def listed(
    store: OrderedStore,
    seed: int = 0,
    *,
    streams: int = 8,
    prefix: str = "",
    splits: list[str] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> list[str]:
    """List with errands answered in a random order."""
    chance = random.Random(seed)
    frontier = Frontier(prefix, streams=streams, splits=splits or [])
    under_way: list[tuple[Errand, list[Page] | NoriaError]] = []
    names: list[str] = []
    while not frontier.finished:
        while len(under_way) < streams and (errand := frontier.take()) is not None:
            try:
                under_way.append((errand, [store.fetch(each) for each in errand.requests]))
            except NoriaError as error:
                under_way.append((errand, error))
        meanwhile()
        errand, answer = under_way.pop(chance.randrange(len(under_way)) if seed else 0)
        if isinstance(answer, NoriaError):
            batches = frontier.refused(errand)
            if batches is None:
                raise answer
        else:
            batches = frontier.answer(errand, answer)
        names += [name for batch in batches for name in batch["key"].to_pylist()]
    assert not under_way
    return names


def listed_with_cuts(store: OrderedStore, seed: int, splits: list[str]) -> list[str]:
    """As listed(), by ever new frontiers that go on where the last one was, as JSON knows it."""
    chance = random.Random(seed)
    frontier = Frontier("", streams=8, splits=splits)
    names: list[str] = []
    while not frontier.finished:
        errands = [errand for _ in range(8) if (errand := frontier.take()) is not None]
        for errand in chance.sample(errands, chance.randint(1, len(errands))):
            try:
                pages = [store.fetch(each) for each in errand.requests]
            except NoriaError:
                batches = frontier.refused(errand) or []
            else:
                batches = frontier.answer(errand, pages)
            names += [name for batch in batches for name in batch["key"].to_pylist()]
        state = ListingState(json.loads(json.dumps(frontier.state().facts)))
        frontier = Frontier("", streams=8)
        frontier.go_on(state)
    return sorted(names)


def hex_names(count: int) -> list[str]:
    return [hashlib.md5(b"%d" % n, usedforsecurity=False).hexdigest() for n in range(count)]


def odd_names(chance: random.Random, count: int) -> list[str]:
    """Names that sort otherwise by bytes, by UTF-16 and by folders."""
    letters = ["a", "b", "/", "-", ".", "0", "é", "語", "\ufffd", "\U0001f600", " ", "%", "+", "\t"]
    return sorted({"".join(chance.choices(letters, k=chance.randint(1, 6))) for _ in range(count)})


SHAPES: dict[str, list[str]] = {
    "hex": hex_names(400),
    "counted": [f"project-study/img-{n:09}.dcm" for n in range(400)],
    "two long folders": [f"a/{n:05}" for n in range(200)] + [f"a-{n:05}" for n in range(200)],
    "one character": ["x" * n for n in range(1, 150)],
    "cluster": [f"zzzz/{n:06}" for n in range(400)] + [f"{n}" for n in range(50)],
    "few": ["a", "b"],
    "none": [],
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("after", [True, False, None])
@pytest.mark.parametrize("tokens", ["portable", "bound", "refused", "sticky"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_name_once(shape: str, tokens: str, after: bool | None, seed: int) -> None:
    store = OrderedStore(names=SHAPES[shape], honours_after=after, tokens=tokens)
    assert sorted(listed(store, seed)) == sorted(SHAPES[shape])


@pytest.mark.parametrize("order", [by_bytes, by_utf16, by_folders, by_hash])
@pytest.mark.parametrize("after", [True, False])
def test_names_in_any_order(order: Order, after: bool) -> None:
    for seed in range(1, 40):
        names = odd_names(random.Random(seed), 250)
        if order is by_hash:  # such a store has no folders
            names = sorted({name.replace("/", "") or "a" for name in names})
        tokens = ("bound", "portable", "sticky")[seed % 3]
        store = OrderedStore(
            names=names, order=order, honours_after=after, tokens=tokens, page_rows=3 + seed % 9
        )
        assert sorted(listed(store, seed)) == names


@pytest.mark.parametrize("order", [by_bytes, by_utf16, by_folders])
def test_splits_that_are_given(order: Order) -> None:
    for seed in range(1, 20):
        chance = random.Random(seed)
        names = odd_names(chance, 250)
        splits = chance.sample(names, 9)
        for after in (True, False, None):
            store = OrderedStore(names=names, order=order, honours_after=after)
            assert sorted(listed(store, seed, splits=splits)) == names


@pytest.mark.parametrize("after", [True, False, None])
@pytest.mark.parametrize("tokens", ["portable", "bound", "refused", "sticky"])
def test_a_listing_that_is_cut_off_goes_on(tokens: str, after: bool | None) -> None:
    for shape, names in SHAPES.items():
        store = OrderedStore(names=names, honours_after=after, tokens=tokens)
        assert listed_with_cuts(store, 1, []) == sorted(names), shape
    for seed in range(1, 12):
        names = odd_names(random.Random(seed), 250)
        order = (by_bytes, by_utf16, by_folders)[seed % 3]
        store = OrderedStore(names=names, order=order, honours_after=after, tokens=tokens)
        assert listed_with_cuts(store, seed, names[::40] if seed % 2 else []) == names


@pytest.mark.parametrize("after", [True, False, None])
def test_a_marker_that_lists_its_own_prefix_ends_no_other_listing(after: bool | None) -> None:
    """The last page of a branch says nothing of what follows it."""
    names = sorted(hex_names(5_000))
    store = OrderedStore(names=names, honours_after=after, tokens="sticky", page_rows=50)
    for seed in range(3):
        assert sorted(listed(store, seed)) == names


def test_a_leap_counts_only_if_it_is_seen_to_leave_its_branch() -> None:
    """A store that looks into its cache first takes one marker so, and the next one otherwise."""
    names = sorted(hex_names(3_000))
    for seed in range(1, 6):
        chance = random.Random(seed)
        store = OrderedStore(names=names, honours_after=False, page_rows=25)

        def change(store: OrderedStore = store, chance: random.Random = chance) -> None:
            store.tokens = chance.choice(["portable", "portable", "sticky"])

        assert sorted(listed(store, seed, meanwhile=change)) == names


@pytest.mark.parametrize("tokens", ["portable", "sticky"])
def test_branches_that_were_passed_are_forgotten(tokens: str) -> None:
    """A state holds those that may still be met, however long the listing becomes."""
    store = OrderedStore(names=hex_names(4_000), honours_after=False, tokens=tokens, page_rows=8)
    frontier = Frontier("", streams=8)
    rows = 0
    while not frontier.finished:
        last_state = frontier.state()
        for errand in [errand for _ in range(8) if (errand := frontier.take()) is not None]:
            batches = frontier.answer(errand, [store.fetch(each) for each in errand.requests])
            rows += sum(map(len, batches))
    assert rows == 4_000
    assert frontier.state().facts["ranges"] == []
    assert len(last_state.facts["ranges"]) <= 12


def test_a_branch_is_kept_until_all_known_orders_have_passed_it() -> None:
    """By UTF-16, what lies beyond U+FFFF comes before U+FFFD; by bytes, after it."""
    heads = ["a", "b", "\U0001f600", "\ufffd"]
    names = [f"{head}{n:03}\ufffd" for head in heads for n in range(60)]
    for seed in range(20):
        store = OrderedStore(names=names, order=by_utf16, honours_after=False, page_rows=5)
        assert sorted(listed(store, seed)) == sorted(names)


@pytest.mark.parametrize("prefix", ["a", "a/", "é", "none"])
def test_a_prefix(prefix: str) -> None:
    names = odd_names(random.Random(5), 1_000)
    below = [name for name in names if name.startswith(prefix)]
    for after in (True, False):
        store = OrderedStore(names=names, honours_after=after)
        assert sorted(listed(store, 3, prefix=prefix, splits=names[::50])) == below


def test_pages_without_names_open_nothing() -> None:
    store = OrderedStore(names=SHAPES["hex"], empty_pages=True)
    assert sorted(listed(store, 1)) == sorted(SHAPES["hex"])


@pytest.mark.parametrize(
    ("shape", "after", "times"),
    [
        ("hex", True, 10),
        ("hex", False, 8),
        ("counted", True, 5),
        ("counted", False, 5),
        ("cluster", True, 5),
        ("cluster", False, 5),
    ],
)
def test_a_flat_prefix_is_listed_side_by_side(shape: str, after: bool, times: int) -> None:
    """A thousand pages in an eighth of the time or less, or a fifth if their names say little."""
    many = {
        "hex": hex_names(50_000),
        "counted": [f"project-study/img-{n:09}.dcm" for n in range(50_000)],
        "cluster": [f"zzzz/{n:06}" for n in range(49_000)] + [f"{n}" for n in range(1_000)],
    }[shape]
    rounds, requests = cost(many, after=after, streams=16)
    assert rounds <= 1_000 / times
    assert requests <= 2_200


@pytest.mark.parametrize("streams", [4, 8, 16])
@pytest.mark.parametrize("after", [True, False])
def test_names_of_one_stem_are_listed_side_by_side_to_their_end(after: bool, streams: int) -> None:
    """Two hundred pages, in twice the rounds that streams allow, and what one piece takes."""
    rounds, requests = cost(
        [f"project-0017-study-221-{name}.dcm" for name in hex_names(10_000)],
        after=after,
        streams=streams,
    )
    assert rounds <= 2 * 200 / streams + 20
    assert requests <= 500


def cost(names: list[str], *, after: bool, streams: int) -> tuple[int, int]:
    """Rounds and requests of a listing whose pages all take as long. Each name comes once."""
    fetch = paged(sorted(names), honours_after=after)
    frontier = Frontier("", streams=streams)
    rounds = requests = rows = 0
    while not frontier.finished:
        errands = [errand for _ in range(streams) if (errand := frontier.take()) is not None]
        for errand in errands:
            requests += len(errand.requests)
            rows += sum(map(len, frontier.answer(errand, list(map(fetch, errand.requests)))))
        rounds += 1
    assert rows == len(names)
    return rounds, requests


def paged(names: list[str], *, honours_after: bool) -> Callable[[PageRequest], Page]:
    """A store of many sorted names, in pages of fifty; its markers are names."""

    def fetch(request: PageRequest) -> Page:
        place = request.marker or (request.after if honours_after else None) or ""
        start = max(bisect.bisect_left(names, request.prefix), bisect.bisect_right(names, place))
        end = bisect.bisect_left(names, request.prefix + LAST) if request.prefix else len(names)
        page = names[start : min(end, start + 50)]
        return page_of(page, page[-1] if start + 50 < end else None)

    return fetch


@pytest.mark.parametrize("after", [True, False])
def test_objects_come_and_go_meanwhile(after: bool) -> None:
    """What stands all the time is listed once; nothing is listed twice."""
    for seed in range(1, 30):
        chance = random.Random(seed)
        all_names = odd_names(chance, 300)
        passing = set(chance.sample(all_names, 100))
        standing = [name for name in all_names if name not in passing]
        store = OrderedStore(names=all_names, honours_after=after)

        def change(
            store: OrderedStore = store,
            chance: random.Random = chance,
            all_names: list[str] = all_names,
            passing: set[str] = passing,
        ) -> None:
            gone = set(chance.sample(sorted(passing), 50))
            store.change([name for name in all_names if name not in gone])

        names = listed(store, seed, meanwhile=change)
        assert len(names) == len(set(names))
        assert set(standing) <= set(names) <= set(all_names)


def test_a_whole_page_at_a_seam_goes_meanwhile() -> None:
    """The seam is closed by asking both sides again, not by what they were."""
    names = [f"{n:04}" for n in range(1_000)]
    store = OrderedStore(names=names)
    frontier = Frontier("", streams=8, splits=["0499"])
    lower, upper = frontier.take(), frontier.take()
    assert lower is not None
    assert upper is not None
    assert upper.requests[0].after == "0499"
    listed_names = [
        name
        for errand in (upper, lower)
        for batch in frontier.answer(errand, [store.fetch(errand.requests[0])])
        for name in batch["key"].to_pylist()
    ]
    store.change(names[:495] + names[530:])
    while (errand := frontier.take()) is not None:
        pages = [store.fetch(request) for request in errand.requests]
        for batch in frontier.answer(errand, pages):
            listed_names += batch["key"].to_pylist()
    assert frontier.finished
    assert len(listed_names) == len(set(listed_names))
    assert set(store.names) <= set(listed_names)


def test_a_store_that_contradicts_itself_is_refused() -> None:
    """After one name, it lists what it does not list otherwise."""
    store = OrderedStore(names=[f"{n:03}" for n in range(300)], page_rows=7)

    def fetch(request: PageRequest) -> Page:
        return page_of(["zy", "zz"], None) if request.after == "1505" else store.fetch(request)

    def list_all() -> None:
        frontier = Frontier("", streams=4, splits=["1505"])
        while (errand := frontier.take()) is not None:
            frontier.answer(errand, [fetch(request) for request in errand.requests])

    with pytest.raises(StoreUnavailable, match="contradicts itself"):
        list_all()


def test_a_middle_lies_between() -> None:
    chance = random.Random(7)
    for _ in range(3_000):
        names = odd_names(chance, 3)
        characters = sorted(set("".join(names)) | {"0", "9", "a"})
        low, high = names[0], chance.choice([*names[1:], None])
        found = middle(low, high, characters, 0)
        assert found is None or (low < found and (high is None or found < high))


def test_a_middle_halves_what_the_characters_allow() -> None:
    digits = list("0123456789")
    assert middle("00", None, digits, 0) == "5"
    assert middle("00", "5", digits, 0) == "3"
    assert middle("37", "4", digits, 0) == "39"
    assert middle("x/00", None, digits, 2) == "x/5"
    assert middle("01", None, ["1", "2", "3", "x"], 0) == "2"
    assert middle("x/99", "x/99", digits, 0) is None


def test_a_branch_comes_after_all_that_was_seen() -> None:
    digits = list("0129")
    assert branch("00", "00", digits, 0, []) == "01"
    assert branch("00", "00", digits, 0, ["01", "02", "09"]) == "1"
    assert branch("99", "99", digits, 0, []) is None
    assert branch("00", "10", digits, 0, ["1"]) == "2"
    assert branch("00", "90", digits, 0, ["9"]) is None
