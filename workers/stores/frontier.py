"""What of a listing is known, asked for and left: no thread, no clock, no store.

At first, a prefix is listed up to the next slash, and each prefix below it becomes work of its own.
Once there is enough work, prefixes are listed with everything below them. A prefix whose first page
is full and names more objects than prefixes is flat: it is listed with everything below it, too.

Such a listing is one page after another. If there is nothing else to do, it is divided while it is
listed, by whichever way the store is seen to honour:

**Ranges.** A name is chosen between the last one seen and the range's end; what follows it becomes
a range of its own. The lower range ends where it names something beyond that name.

Nothing is known of the order in which a store lists, nor of what it makes of `after`. What is
relied on is that it has one order, whichever, in which it also begins after a name. (A store that
has not loses objects to whoever pages by names, as the first edition of S3's listing does.) A range
is then a piece of that order without gaps, from its first page on. Two neighbours meet without gap
or overlap if the lower one ends right before the very name with which the upper one begins: that is
the seam, and each one is looked at. So all ranges together are the whole, once. If a seam does not
close, objects may have come or gone meanwhile: both sides of the seam are asked for again, at once.
If it still does not close, the store's order is not the one of names: nothing is divided any more,
and the lower range goes on, page by page, until it comes to a name of the upper one's first page. A
range whose first page names something that does not come after its beginning has delivered nothing
yet, and is given back to the lower one.

**Branches**, for stores that cannot begin after a name. A prefix that all names seen come before
becomes a listing of its own, and its names are left out of the listing that it is cut from. This
needs no order: a name is below that prefix, or it is not. When the longer listing comes to such
names it waits for the branch to end, and goes on with the marker of the branch's last page: so it
leaps over what it need not see. It is known to be in the right place because that page begins with
the name that the branch's last page began with, and from there the store's order goes on; names of
one prefix follow each other in every order that compares names from the left. A store that takes no
marker of another prefix answers something else; then no listing leaps, and each passes through all
its pages. A store may also answer with the branch's own last page, and end there: to it, a marker
is of a listing, whatever prefix it is sent with. So a leap counts only if its page names something
outside the branch as well. That cannot be seen if nothing follows the branch: then the last leap
within the branch that did count is made here, too, and else the branch is passed through.

A store of which one page was seen not to ascend is not divided any more, and no listing leaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from noria.manifests.errors import ListingBroken
from noria.workers.stores.advance import check_prefixes, names_of
from noria.workers.stores.checkpoint import from_json, to_json
from noria.workers.stores.midpoints import agree, branch, middle, part_left, shared
from noria.workers.stores.protocol import Page, PageRequest
from noria.workers.stores.ranges import KeyRange

SPREAD: Final = 4
"""With this many prefixes waiting for each thread, prefixes are no longer split."""
PAGES_LEFT: Final = 2
"""A listing is cut if it seems to have so many pages left, ..."""
PAGES_TRUSTED: Final = 8
"""... or if it has given so many since it was cut: it may be much longer than it seems."""
EMPTY_CUTS: Final = 32
"""Cuts that may have named nothing, and one more for every fourth page."""
SEAM_CHECKS: Final = 3
"""So often both sides of a seam are asked for again before the order is held to be another."""
NAMES_LEARNT: Final = 8
"""Names of each page whose characters are learnt."""


class Way(Enum):
    """How a long listing is divided."""

    RANGES = "ranges"
    BRANCHES = "branches"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Pages to fetch for a listing."""

    of: KeyRange
    requests: Sequence[PageRequest]
    closes_seam: bool = False


@dataclass(frozen=True, slots=True)
class ListingState:
    """How far a listing has come, as JSON takes it: from it the rest is listed."""

    facts: Mapping[str, Any]


class Frontier:
    """The listings of one walk. Not safe for threads: one at a time."""

    def __init__(self, prefix: str, *, streams: int, splits: Iterable[str] = ()) -> None:
        """`splits` are names between which as many objects are expected, in any order."""
        self._enough = streams * SPREAD
        self._way = Way.RANGES if streams > 1 else Way.NONE
        self._leaps = True
        self._stack: list[KeyRange] = []
        self._seams: list[KeyRange] = []
        """Lower ranges whose upper seam has to be asked for again."""
        self._open: set[KeyRange] = set()
        """Deep listings that have not ended."""
        self._running: list[Errand] = []
        self._pages = 0
        self._empty_cuts = 0
        self._characters: list[str] = []
        inside = _in_one_order(name for name in splits if name.startswith(prefix))
        if self._way is Way.NONE or not inside:
            self._push(KeyRange(prefix=prefix, deep=streams <= 1))
        else:
            self._begin_split(prefix, inside)

    @property
    def finished(self) -> bool:
        return not (self._stack or self._seams or self._running)

    def take(self) -> Errand | None:
        """Return what to fetch next; None if there is nothing now. Each is to be answered."""
        if self._seams:
            errand = _seam_errand(self._seams.pop())
        elif self._stack or self._divide():
            of = self._stack.pop()
            errand = Errand(of=of, requests=[of.request()])
        else:
            return None
        self._running.append(errand)
        return errand

    def answer(self, errand: Errand, pages: Sequence[Page]) -> list[pa.RecordBatch]:
        """Take in the pages of an errand; return the rows that they add to the listing.

        Raises ListingBroken if the listing does not advance or contradicts itself.
        """
        self._running.remove(errand)
        if errand.closes_seam:
            return self._close(errand.of, *pages)
        return self._take_in(errand.of, pages[0])

    def refused(self, errand: Errand) -> list[pa.RecordBatch] | None:
        """Take in that an errand failed; return None if the whole listing fails by that.

        It does not if another listing can do the same without: what it fails by is met there.
        """
        of = errand.of
        if errand.closes_seam:
            return None
        if of.leap is not None:
            self._running.remove(errand)
            return self._do_not_leap(of)
        if of.lower is not None and not of.opened:
            self._running.remove(errand)
            return self._give_back(of)
        return None

    def state(self) -> ListingState:
        """Return how far the listing has come with the rows that were returned so far."""
        pages = [errand.of for errand in self._running if not errand.closes_seam]
        seams = [errand.of for errand in self._running if errand.closes_seam]
        lists = {
            "stack": [*self._stack, *pages],
            "seams": [*self._seams, *seams],
            "open": list(self._open),
        }
        ranges, places = to_json(each for listings in lists.values() for each in listings)
        return ListingState(
            {
                "way": self._way.value,
                "leaps": self._leaps,
                "pages": self._pages,
                "empty_cuts": self._empty_cuts,
                "characters": "".join(self._characters),
                "ranges": ranges,
                **{name: [places[each] for each in each_list] for name, each_list in lists.items()},
            }
        )

    def go_on(self, state: ListingState) -> None:
        """Take a state in place of a new one. Raises ValueError, LookupError if it is damaged."""
        facts = state.facts
        ranges = from_json(facts["ranges"])
        self._way = Way.NONE if self._way is Way.NONE else Way(facts["way"])
        self._leaps, self._pages = bool(facts["leaps"]), int(facts["pages"])
        self._empty_cuts, self._characters = int(facts["empty_cuts"]), list(facts["characters"])
        self._stack = [ranges[place] for place in facts["stack"]]
        self._seams = [ranges[place] for place in facts["seams"]]
        self._open = {ranges[place] for place in facts["open"]}

    def _begin_split(self, prefix: str, names: Sequence[str]) -> None:
        lower: KeyRange | None = None
        for after, until in zip([None, *names], [*names, None], strict=True):
            piece = KeyRange(prefix=prefix, deep=True, after=after, until=until, lower=lower)
            if lower is not None:
                lower.upper = piece
            lower = piece
            self._push(piece)
        self._stack.reverse()

    def _push(self, listing: KeyRange) -> None:
        self._stack.append(listing)
        if listing.deep:
            self._open.add(listing)

    def _take_in(self, of: KeyRange, page: Page) -> list[pa.RecordBatch]:
        check_prefixes(page, of.prefix)
        keys = page.batch["key"]
        marker = of.request().marker
        if of.leap is not None:
            if of.leap[1] not in (_first(keys), ""):
                return self._do_not_leap(of)
            if pc.all(pc.starts_with(keys, of.leap[2]), min_count=0).as_py():
                return self._leap_less(of, page)
            below = self._branch_at(of)
            of.leapt = None if below is None else _leap_over(below, of)
            of.leap = None
        if not of.opened and of.after is not None and not _comes_after(page, of.after):
            return self._give_back(of)
        if self._is_flat(of, page):
            self._push(KeyRange(prefix=of.prefix, deep=True))
            return []
        of.advance.check(names_of(page), page.next_marker)
        of.pages += 1
        of.pages_since_cut += 1
        self._pages += 1
        self._learn(of, keys)
        if page.next_marker is None and marker is not None and len(keys):
            of.last_page = (marker, keys[0].as_py())
        opens = not of.opened and (len(keys) > 0 or page.next_marker is None)
        if opens:
            of.opened = True
            of.opening = keys if of.lower is not None else None
        batches = self._give(of, page)
        if opens:
            self._empty_cuts += int(of.is_cut and not of.rows)
            if of.lower is not None and of.lower.rest is not None:
                batches += self._meet(of.lower)
        return batches

    def _is_flat(self, of: KeyRange, page: Page) -> bool:
        """Return True if a listing up to the next slash is better made as a deep one.

        Its first page is then asked for a second time; nothing of it was delivered.
        """
        return (
            not of.deep
            and self._way is not Way.NONE
            and of.marker is None
            and page.next_marker is not None
            and page.batch.num_rows > len(page.prefixes)
            and len(self._stack) < self._enough
        )

    def _learn(self, of: KeyRange, keys: pa.Array) -> None:
        """Note the first and the last name, whether names ascend, and the characters of some."""
        if not len(keys) or not of.deep:
            return
        first, last = keys[0].as_py(), keys[-1].as_py()
        ascend = of.last is None or of.last < first
        if not ascend or not pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py():
            self._way = Way.NONE
            self._leaps = False
        of.first = first if of.first is None else of.first
        of.last = last
        some = [last, *keys[:: max(1, len(keys) // NAMES_LEARNT)].to_pylist()]
        seen = {character for name in some for character in name[len(of.prefix) :]}
        if not seen.issubset(self._characters):
            self._characters = sorted(seen.union(self._characters))

    def _give(self, of: KeyRange, page: Page) -> list[pa.RecordBatch]:
        """Deliver what of a page belongs to its listing, and go on with it or end it."""
        if of.seeking:
            return self._seek(of, page)
        keys = page.batch["key"]
        end = _beyond(keys, of.until)
        if end:
            of.given = keys[end - 1].as_py()
        within = page.batch.slice(0, end)
        if of.branches:
            within = within.filter(_outside(keys.slice(0, end), of.branches))
        of.rows += len(within)
        if end < len(keys) or (page.next_marker is None and of.upper is not None):
            of.rest = replace(page, batch=page.batch.slice(end))
            return [within, *self._meet(of)]
        if page.next_marker is None:
            self._end(of)
        else:
            of.marker = page.next_marker
            self._forget_passed(of)
            self._go_on(of)
        deep = len(self._stack) + len(page.prefixes) >= self._enough
        for below in page.prefixes:
            self._push(KeyRange(prefix=below, deep=deep))
        return [within]

    def _end(self, of: KeyRange) -> None:
        of.ended = True
        of.branches = []
        self._open.discard(of)
        for waiting in of.waiting:
            self._pass_by(of, waiting)
        of.waiting.clear()

    # -- dividing ----------------------------------------------------------------------------------

    def _divide(self) -> bool:
        """Make new work of the listing that seems to have most left. Return True if there is."""
        if self._way is Way.NONE or self._empty_cuts > EMPTY_CUTS + self._pages // 4:
            return False
        long = [of for of in self._open if of.is_divisible]
        if self._way is Way.BRANCHES:
            return any(map(self._branch, sorted(long, key=lambda of: -of.pages_since_cut)))
        left = [(self._pages_left(of), of) for of in long]
        left.sort(key=lambda each: -each[0])
        return any(
            self._cut(of)
            for pages, of in left
            if pages >= PAGES_LEFT or of.pages_since_cut >= PAGES_TRUSTED
        )

    def _pages_left(self, of: KeyRange) -> float:
        assert of.first is not None, "is_divisible"
        assert of.last is not None, "is_divisible"
        begin = len(of.prefix)
        return of.pages * part_left(of.first, of.last, of.until, self._characters, begin)

    def _cut(self, lower: KeyRange) -> bool:
        assert lower.last is not None, "is_divisible"
        begin = max(len(lower.prefix), lower.cut_from)
        name = middle(lower.last, lower.until, self._characters, begin)
        if name is None:
            return False
        # Names of one stem differ late: each cut goes half of the way there.
        differ = shared(lower.first or "", lower.last)
        lower.cut_from = min(differ, (len(name) + differ + 1) // 2)
        upper = KeyRange(
            prefix=lower.prefix,
            deep=True,
            after=name,
            until=lower.until,
            lower=lower,
            upper=lower.upper,
            is_cut=True,
        )
        if lower.upper is not None:
            lower.upper.lower = upper
        lower.upper, lower.until, lower.pages_since_cut = upper, name, 0
        self._push(upper)
        return True

    def _branch(self, of: KeyRange) -> bool:
        assert of.last is not None, "is_divisible"
        if of.after is not None or of.until is not None:
            return False
        taken = {below.prefix for below in of.branches}
        assert of.first is not None, "is_divisible"
        pages = of.pages + of.pages_passed
        prefix = branch(of.first, of.last, self._characters, len(of.prefix), taken, pages)
        if prefix is None:
            return False
        below = KeyRange(prefix=prefix, deep=True, is_cut=True)
        of.branches.append(below)
        of.pages_since_cut = 0
        self._push(below)
        return True

    # -- seams of ranges ---------------------------------------------------------------------------

    def _meet(self, lower: KeyRange) -> list[pa.RecordBatch]:
        """Close the seam above a range that has come to its end, once both sides are known."""
        upper, rest = lower.upper, lower.rest
        assert upper is not None, "it has a seam"
        assert rest is not None, "it has come to its end"
        if upper.opening is not None:
            if _first(rest.batch["key"]) == _first(upper.opening):
                self._join(lower, upper)
            else:
                self._seams.append(lower)
        return []

    def _join(self, lower: KeyRange, upper: KeyRange) -> None:
        lower.rest = upper.opening = None
        lower.upper = upper.lower = None
        self._end(lower)

    def _close(self, lower: KeyRange, here: Page, there: Page) -> list[pa.RecordBatch]:
        """Compare both sides of a seam that did not close, as they are now."""
        assert lower.upper is not None, "it has a seam"
        assert lower.rest is not None, "it has come to its end"
        keys = here.batch["key"]
        keys = keys[_beyond(keys, lower.until) :]
        seen = len(keys) > 0 or here.next_marker is None
        if seen and _first(keys) == _first(there.batch["key"]):
            self._join(lower, lower.upper)
            return []
        lower.checks += 1
        if lower.checks < SEAM_CHECKS:
            self._seams.append(lower)
            return []
        self._way = Way.NONE
        lower.seeking = True
        rest, lower.rest = lower.rest, None
        return self._give(lower, rest)

    def _seek(self, of: KeyRange, page: Page) -> list[pa.RecordBatch]:
        """Deliver a page of a range that goes on until it meets the upper one."""
        assert of.upper is not None, "it has a seam"
        opening = of.upper.opening
        met = pc.index(pc.is_in(page.batch["key"], value_set=opening), True).as_py()
        if met < 0 and page.next_marker is not None:
            of.marker = page.next_marker
            self._stack.append(of)
            return [page.batch]
        if met < 0 and _first(opening) is not None:
            raise ListingBroken(
                "the store's listing contradicts itself: what it lists after a name is not what "
                "follows in its order; set inventory.listing_streams = 1, or use an inventory"
            )
        of.upper.opening = of.upper.lower = None
        of.upper = None
        self._end(of)
        return [page.batch if met < 0 else page.batch.slice(0, met)]

    def _give_back(self, upper: KeyRange) -> list[pa.RecordBatch]:
        """Let the lower range have what the upper one was to list, which has delivered nothing.

        So is done with all ranges that were not asked for yet.
        """
        if self._way is Way.RANGES:
            self._way = Way.BRANCHES
        unasked = [of for of in self._stack if of.lower is not None and of.marker is None]
        self._stack = [of for of in self._stack if of not in unasked]
        return [batch for of in (upper, *unasked) for batch in self._give_to_lower(of)]

    def _give_to_lower(self, upper: KeyRange) -> list[pa.RecordBatch]:
        lower = upper.lower
        assert lower is not None, "it begins after a name"
        self._end(upper)
        lower.until, lower.upper = upper.until, upper.upper
        if upper.upper is not None:
            upper.upper.lower = lower
        if lower.rest is None:
            return []
        rest, lower.rest = lower.rest, None
        return self._give(lower, rest)

    # -- branches ----------------------------------------------------------------------------------

    def _go_on(self, of: KeyRange) -> None:
        """Have the next page fetched, or wait for the branch that the listing has come to."""
        below = self._branch_at(of)
        if below is None:
            self._stack.append(of)
        elif below.ended:
            self._pass_by(below, of)
        else:
            below.waiting.append(of)

    def _forget_passed(self, of: KeyRange) -> None:
        """Leave out the branches that no page to come names anything of, in any known order."""
        last = of.last
        if last is None or not self._leaps:
            return
        of.branches = [
            below
            for below in of.branches
            if not below.ended
            or below.prefix > last
            or last.startswith(below.prefix)
            or not agree(below.prefix, last)
        ]

    @staticmethod
    def _branch_at(of: KeyRange) -> KeyRange | None:
        """Return the branch that a listing has come to."""
        last = of.last or ""
        return next((each for each in of.branches if last.startswith(each.prefix)), None)

    def _pass_by(self, below: KeyRange, of: KeyRange) -> None:
        """Go on with a listing that has come to a branch which has ended: by a leap if it may."""
        if not below.is_passed:
            below.is_passed = True
            of.pages_passed += below.pages + below.pages_passed
        of.leap = _leap_over(below, of) if self._leaps else None
        self._stack.append(of)

    def _do_not_leap(self, of: KeyRange) -> list[pa.RecordBatch]:
        """Go on with a listing's own marker: the store does not take that of another prefix."""
        self._leaps = False
        of.leap = None
        self._stack.append(of)
        return []

    def _leap_less(self, of: KeyRange, page: Page) -> list[pa.RecordBatch]:
        """Pass by a branch in another way: it is not known whether the leap has left it.

        A branch may end with the end of a page: one more is looked at.
        """
        below = self._branch_at(of)
        if below is None or of.leap is None:
            return self._do_not_leap(of)
        if of.leap[1] and page.next_marker is not None:
            of.leap = (page.next_marker, "", of.leap[2])
            self._stack.append(of)
            return []
        if below.last_page is not None:
            below.last_page = None
        else:
            below.leapt = None
        self._pass_by(below, of)
        return []


def _in_one_order(names: Iterable[str]) -> list[str]:
    """Return those of the names, sorted, that stores of every known order list in this order."""
    chosen: list[str] = []
    for name in sorted(set(names)):
        if name and (not chosen or agree(chosen[-1], name)):
            chosen.append(name)
    return chosen


def _seam_errand(lower: KeyRange) -> Errand:
    assert lower.upper is not None, "it has a seam"
    starts = [lower.given or lower.after, lower.upper.after]
    requests = [PageRequest(prefix=lower.prefix, deep=True, after=after) for after in starts]
    return Errand(of=lower, requests=requests, closes_seam=True)


def _first(keys: pa.Array) -> str | None:
    name: str | None = keys[0].as_py() if len(keys) else None
    return name


def _comes_after(page: Page, after: str) -> bool:
    """Return True if all that a first page names may follow a name; folders are no such names."""
    beyond = pc.all(pc.greater(page.batch["key"], after), min_count=0).as_py()
    return beyond and not page.prefixes


def _beyond(keys: pa.Array, until: str | None) -> int:
    """Return the index of the first key beyond `until`; len(keys) if there is none."""
    if until is None:
        return len(keys)
    index: int = pc.index(pc.greater(keys, until), True).as_py()
    return len(keys) if index < 0 else index


def _leap_over(below: KeyRange, of: KeyRange) -> tuple[str, str, str] | None:
    """Return the longest leap that may lead out of a branch, or nearer to its end; None if none."""
    whole = None if below.last_page is None else (*below.last_page, below.prefix)
    leaps = (leap for leap in (whole, below.leapt) if leap is not None)
    return next((leap for leap in leaps if leap[1] > (of.last or "")), None)


def _outside(keys: pa.Array, branches: Iterable[KeyRange]) -> pa.Array:
    """Return which keys lie below none of the branches."""
    mask = pa.repeat(True, len(keys))
    ends = pc.min_max(keys)
    least, most = ends["min"].as_py() or "", ends["max"].as_py() or ""
    for below in branches:
        if below.prefix > most or (below.prefix < least and not least.startswith(below.prefix)):
            continue
        mask = pc.and_not(mask, pc.starts_with(keys, below.prefix))
    return mask
