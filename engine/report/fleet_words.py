"""What a report of many datasets says in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from noria.engine.report import words
from noria.engine.report.document import ordered_levels
from noria.engine.report.fleet_document import DatasetStory, FleetStory
from noria.engine.terminal.figures import size_text
from noria.manifests.count_text import count_text
from noria.manifests.job.cutover_states import MigrationState, state_text


def verdict(story: FleetStory) -> tuple[bool, str]:
    """Whether nothing is left to do, and how it stands, in one line."""
    number, look = len(story.datasets), len(story.open_datasets)
    if not number:
        return False, "There are no datasets yet: nothing was moved."
    if not look:
        return True, (
            f"All of {count_text(number, 'dataset')} are in order: everything that the last passes "
            "had to move is at the targets, which were compared with every receipt."
        )
    return False, f"A person has to look at {look:,} of {count_text(number, 'dataset')}."


def state_line(story: FleetStory) -> str:
    """How many datasets stand where."""
    found = Counter(map(stands, story.datasets))
    return f"{', '.join(f'{count:,} {said}' for said, count in found.most_common())}."


def figures(story: FleetStory) -> list[tuple[str, str]]:
    """The largest numbers, and what each is of."""
    levels = ordered_levels(story.levels)
    failed = sum(each.open_matters.get("failed", 0) for each in story.datasets)
    return [
        (f"{len(story.datasets):,}", "datasets"),
        (f"{story.objects:,}", "objects at the targets"),
        (size_text(story.bytes), "bytes of these"),
        (f"{levels[0][1]:,}" if levels else "0", levels[0][0].value if levels else "verified"),
        (f"{failed:,}", "failed in the last passes"),
        (f"{_count_left_out(story):,}", "left out by plan or filter"),
    ]


def proved(story: FleetStory) -> Iterator[str]:
    """What is known of the bytes of all datasets together."""
    yield from words.levels_reached(story.levels)
    for said, found in (
        ("their targets were listed after the last pass and compared with every receipt by name, "
         "size and ETag", [each.is_reconciled for each in story.datasets]),
        ("every object that stands at their targets was read back and compared with its receipt",
         [each.is_read_back and each.objects > 0 for each in story.datasets]),
        ("their receipts are covered by signed checkpoints, as they stand",
         [each.is_sealed for each in story.datasets]),
    ):  # fmt: skip
        if count := sum(found):
            yield f"{_of_all(count, story)}: {said}."


def not_proved(story: FleetStory) -> Iterator[str]:
    """What a reader might take for granted, and must not."""
    for said, found in (
        ("are not in order, or have not ended: see above",
         [bool(each.open_matters) for each in story.datasets]),
        ("have objects that were not read back: that their bytes lie at the target today rests on "
         "what the store said as it took them in. `noria verify` reads them back",
         [not each.is_read_back and each.objects > 0 for each in story.datasets]),
        ("are not covered by a signature as they stand: `noria sign` covers what has come since",
         [not each.is_sealed and each.objects > 0 for each in story.datasets]),
    ):  # fmt: skip
        if count := sum(found):
            yield f"{_of_all(count, story)} {said}."
    if changed := ", ".join(f"{count:,} {how}" for how, count in words.changes(story.changes)):
        yield f"Not every attribute came along: {changed}."
    if left := _count_left_out(story):
        yield (
            "What was left out is not at the targets by this migration: "
            f"{count_text(left, 'entry')} of the last inventories, listed below."
        )
    yield (
        "The sources went on living: what was written there after the last listing is not in here, "
        "unless a freeze is in the history of that dataset."
    )
    yield "Receipts are not signed by this page: it repeats what the directories hold."


def levels(dataset: DatasetStory) -> str:
    """How far its objects are verified, the weakest level first."""
    found = ordered_levels(dataset.levels)
    if len(found) == 1:
        return found[0][0].value
    return ", ".join(f"{count:,} {level.value}" for level, count in reversed(found)) or "-"


def attention(dataset: DatasetStory) -> str:
    """What a person has to look at; empty: nothing."""
    said = (words.matters_text(dataset.open_matters), dataset.message)
    return ": ".join(filter(None, said))


def stands(dataset: DatasetStory) -> str:
    """What it does, or where its cutover stands."""
    if dataset.is_at_cutover or dataset.state == MigrationState.ROLLED_BACK:
        return state_text(MigrationState(dataset.state or ""))
    return dataset.phase.replace("_", " ")


def _of_all(count: int, story: FleetStory) -> str:
    return f"{count:,} of {count_text(len(story.datasets), 'dataset')}"


def _count_left_out(story: FleetStory) -> int:
    return sum(story.left_out.values()) + sum(story.passed_over.values())
