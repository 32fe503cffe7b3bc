"""What a report says in sentences: how things stand, what is proved, and what is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from noria.engine.report.document import Story, ordered_levels
from noria.engine.terminal.figures import size_text, time_text
from noria.engine.terminal.report import CHANGES, DAMAGE, PASSED_OVER, REASONS
from noria.engine.terminal.verification_text import verification_text
from noria.manifests.count_text import count_text
from noria.manifests.job.cutover_states import MigrationState, state_text
from noria.manifests.model import Level

LEVELS: Final = {
    Level.COUNTED: "an object of that size was there after the write; its bytes were not compared",
    Level.INGESTED: "the bytes that Noria read are those that the target took in: it checked a "
    "checksum sent with them, and had been seen to refuse a wrong one",
    Level.CHAINED: "the bytes that the source served, of one pinned version, are those that the "
    "target took in: both stores state the same checksum",
    Level.SAMPLED: "as those drawn at random to be read back from the target show",
    Level.REREAD: "every byte was read back from the target and compared with the receipt",
    Level.SEALED: "the receipt is covered by a signed checkpoint",
}
_MATTERS: Final = {
    "failed": "{:,} that had to move and did not",
    "damaged": "{:,} that were found damaged at the target, and not sent again since",
    "unsettled": "{:,} of passes that have ended have no receipt: restore what is lost of sealed/ "
    "and results/ from a copy",
    "not_in_order": "the target was compared with the receipts, and is not in order",
    "not_ended": "the last pass has not ended",
    "half_planned": "another pass is begun, and its plan has not ended",
    "not_planned": "it is not planned yet",
    "refused": "it did not go on",
    "unread": "its directory cannot be read",
}


def verdict(story: Story) -> tuple[bool, str]:
    """Whether nothing is left to do, and how it stands, in one line."""
    matters = story.open_matters
    if not matters:
        return True, (
            f"Everything that pass {story.last.number} had to move is at the target, and the "
            "target was compared with every receipt: nothing is missing, nothing differs."
        )
    return False, f"A person has to look at this: {matters_text(matters)}."


def matters_text(matters: Mapping[str, int]) -> str:
    """What a person has to look at: as open_matters has it."""
    return "; ".join(_MATTERS[name].format(count) for name, count in matters.items())


def state_line(story: Story) -> str:
    """Where the migration stands."""
    return f"This migration is {state_text(MigrationState(story.history['state']))}."


def levels_reached(levels: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each level, the strongest first."""
    for level, count in ordered_levels(levels):
        yield f"{count_text(count, 'object')} {level.value}: {LEVELS[level]}."


def proved(story: Story) -> Iterator[str]:
    """What is known of the bytes, a sentence for each level that was reached."""
    yield from levels_reached(story.standing.levels)
    back = story.read_back
    if back is not None:
        yield (
            f"{count_text(back.objects, 'object')}, {size_text(back.bytes)}, were read back from "
            f"the target by `noria verify`, last heard of at {time_text(back.ended_seconds)} UTC, "
            "and were what their receipts say."
        )
    if (found := story.verification) is not None:
        signed = story.sealed is not None and story.sealed.history >= found.number
        how = (
            f"signed with checkpoint {story.sealed.checkpoint}"
            if story.sealed is not None and signed
            else "under no signature yet"
        )
        since = "; passes have moved objects since" if found.has_moved_since else ""
        yield (
            f"The last verification, by {found.by} at {found.at} (record {found.number} of the "
            f"history, {how}): {verification_text(found.facts)}{since}."
        )
    if story.last.reconciled:
        yield (
            "The target was listed after the last pass and compared with every receipt by name, "
            "size and ETag."
        )
    for each in story.checkpoints:
        yield (
            f"All {count_text(each.receipts, 'receipt')} of pass {each.of_pass} are in checkpoint "
            f"{each.number}, signed in the name of {', '.join(each.signed_by)}; `noria prove "
            f"--check` tells whether the signatures are right. Root: {each.root}."
        )
        if each.stamped_seconds is not None:
            yield (
                f"Checkpoint {each.number} has a time stamp of {time_text(each.stamped_seconds)} "
                "UTC, in checkpoint.tsr beside it; `openssl ts -verify` tells who signed that."
            )
    if story.sealed is not None and story.sealed.is_current:
        yield (
            f"{count_text(story.sealed.objects, 'object')} {Level.SEALED.value}: their receipts "
            "are covered by signed checkpoints, as they stand."
        )
    if story.history["records"]:
        yield (
            "The history's records name each other by digest: as long as it has the last digest, "
            "which stands below, nothing up to it was changed."
        )


def not_proved(story: Story) -> Iterator[str]:
    """What a reader might take for granted, and must not."""
    if story.sealed is not None and not story.sealed.is_current:
        yield (
            f"What stands is not sealed as it stands: checkpoint {story.sealed.checkpoint} covers "
            "earlier receipts. `noria sign` covers what has come since."
        )
    if (rest := not_read_back(story)) is not None:
        yield (
            f"{rest} not read back: that these bytes lie at the target today rests on what the "
            "store said as it took them in. `noria verify` reads them back."
        )
    if changed := ", ".join(f"{count:,} {how}" for how, count in changes(story.standing.changes)):
        yield f"Not every attribute came along: {changed}."
    if left := _count_left_out(story):
        yield (
            "What was left out is not at the target by this migration: "
            f"{count_text(left, 'entry')} of the last inventory, listed below."
        )
    if story.last.phase != "finished":
        yield (
            "The last pass has not ended: "
            + (
                "what it has moved so far is not among what stands."
                if len(story.passes) > 1
                else "figures are of what was sealed so far."
            )
        )
    yield (
        "The source went on living: what was written there after the last listing is not in here, "
        "unless a freeze is in the history."
    )
    yield "Receipts are not signed by this page: it repeats what the job's directory holds."


def not_read_back(story: Story) -> str | None:
    """Which objects were not, up to the verb. None: there are none."""
    back, stands = story.read_back, story.standing.objects
    if back is None or not back.objects:
        return f"{count_text(stands, 'object')} that stand there were"
    if story.timeline and story.timeline[-1].begins >= back.ended_seconds:
        return f"What landed after {time_text(back.ended_seconds)} UTC was"
    rest = stands - back.objects
    return (
        f"At least {count_text(rest, 'object')} of those that stand there were"
        if rest > 0
        else None
    )


def _count_left_out(story: Story) -> int:
    """A cause may be in both: an old version is left out by a plan, or passed over before it."""
    return sum(story.last.left_out.values()) + sum(story.last.passed_over.values())


def left_out(planned: Mapping[str, int], passed_over: Mapping[str, int]) -> list[tuple[str, int]]:
    """Why entries of an inventory did not move, in words, with how many: fields of a PassStory."""
    return [
        *((REASONS.get(name, name), count) for name, count in planned.items()),
        *((PASSED_OVER.get(name, name), count) for name, count in passed_over.items()),
    ]


def changes(found: Mapping[str, int]) -> list[tuple[str, int]]:
    """How attributes differ from the source's, in words, with of how many objects."""
    return [(CHANGES.get(name, name), count) for name, count in sorted(found.items())]


def causes(story: Story) -> list[tuple[str, int]]:
    """Why entries of the last pass failed or were damaged, with how many."""
    last = story.last
    known = {name for name in last.causes if name not in last.left_out}
    failed = [(name, last.causes[name]) for name in sorted(known)]
    damaged = [
        (DAMAGE.get(name, name), count)
        for each in story.passes
        for name, count in sorted(each.damaged.items())
    ]
    return failed + damaged


def figures(story: Story) -> list[tuple[str, str]]:
    """The largest numbers, and what each is of."""
    stands, last = story.standing, story.last
    levels = ordered_levels(stands.levels)
    return [
        (f"{stands.objects:,}", "objects at the target"),
        (size_text(stands.bytes), "bytes of these"),
        (f"{levels[0][1]:,}" if levels else "0", levels[0][0].value if levels else "verified"),
        (f"{last.failed:,}", "failed in the last pass"),
        (f"{_count_left_out(story):,}", "left out by plan or filter"),
        (f"{len(story.passes):,}", "pass" if len(story.passes) == 1 else "passes"),
    ]
