"""Every command of the documents runs, and prints what they say."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path

import pytest

from docs.reference.commands import command_line
from noria.benchmarks.servers import ROOT
from noria.engine.config.reading import read_job_file
from tests.docs.console import PAGES, agrees, blocks, fences, noria_arguments, played, servers_of

DOCUMENTS = [ROOT / "README.md", *sorted(PAGES.rglob("*.md"))]
UNPLAYED_SHARE_MAX = 0.25
"""Of all commands; that many can be tried by nobody but who has an account, or a cluster."""


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


RUNNING = [
    pytest.param(path, id=named(path), marks=[pytest.mark.servers] if servers_of(path) else [])
    for path in DOCUMENTS
    if any(not block.needs for block in blocks(path))
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", RUNNING)
def test_commands_print_what_the_document_says(path: Path) -> None:
    wrong = []
    for command, printed in zip(*played(path), strict=True):
        if not agrees(command.expected, printed):
            lines = difflib.unified_diff(
                command.expected, printed.splitlines(), "document", "printed", lineterm=""
            )
            wrong.append(f"{named(path)}:{command.line}: {command.text}\n" + "\n".join(lines))
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_the_real_command_line_takes_every_command(path: Path) -> None:
    root = command_line()
    for block in blocks(path):
        for command in block.commands:
            for arguments in noria_arguments(command):
                context = root.make_context("noria", list(arguments), resilient_parsing=True)
                if arguments[0].startswith("-"):
                    continue
                name, child, rest = root.resolve_command(context, list(arguments))
                # Raises if an option or an argument is none of this command's.
                child.make_context(name, rest, parent=context)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_the_real_reader_takes_every_job_file(path: Path, tmp_path: Path) -> None:
    for number, fence in enumerate(fences(path)):
        if fence.language == "toml" and any(line == "[source]" for line in fence.body):
            job_file = tmp_path / f"job-{number}.toml"
            job_file.write_text("\n".join(fence.body))
            for each in ("rules.txt", "keys.txt"):
                (tmp_path / each).touch()
            read_job_file(job_file)


def test_few_commands_can_not_be_run_here() -> None:
    """And each says above it what it needs."""
    all_blocks = [block for path in DOCUMENTS for block in blocks(path)]
    unplayed = [command for block in all_blocks if block.needs for command in block.commands]
    everything = [command for block in all_blocks for command in block.commands]
    assert everything
    assert len(unplayed) <= UNPLAYED_SHARE_MAX * len(everything)
    assert {block.needs for block in all_blocks} <= {
        "",
        "needs your account",
        "needs a cluster",
        "needs a running job",
        "needs an authority",
        "takes a while",
    }


# -- the comparison itself -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["3 TRANSFERRED: 1 kB in 1.2 s"], "3 TRANSFERRED: 1 kB in 14 s\n"),
        (["job 0123abcd4567: finished at 2026-01-01 00:00:00 UTC"],
         "job 89abcdef0123: finished at 2026-11-28 04:12:10 UTC\n"),
        (["first", "...", "last"], "first\nb\nc\nlast\n"),
        (["first", "...", "last"], "first\nlast\n"),
        (["ends in ..., so"], "ends in anything at all, so\n"),
        (["... to note (6.7 s)"], "5 to note (12 s)\n"),
        (["1  2026-11-28 08:15:19  1 s   1 s  5 new"],
         "1  2026-01-01 00:00:00  950 ms  2 s  5 new\n"),
        (["a freeze of about 2 s (between 0 and 3)"], "a freeze of about 5 s (between 1 and 9)\n"),
        (["    digest        who      what", "1   76b3e02c4885  ann@a  pass 1"],
         "    digest        who     what\n1   86b3e02c4885  root@vm  pass 1\n"),
        ([], ""),
    ],
)  # fmt: skip
def test_what_differs_from_run_to_run_agrees(expected: list[str], printed: str) -> None:
    assert agrees(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        (["3 TRANSFERRED: 1 kB in 1.2 s"], "4 TRANSFERRED: 1 kB in 1.2 s\n"),
        (["3 TRANSFERRED: 1 kB in 1.2 s"], "3 TRANSFERRED: 2 kB in 1.2 s\n"),
        (["one"], "one\ntwo\n"),
        (["one", "two"], "one\n"),
        ([], "noria: something\n"),
        (["1  2026-11-28 08:15:19  1 s  1 s  5 new"], "1  2026-11-28 08:15:19  1 s  1 s  6 new\n"),
        (["1   76b3e02c4885  ann@a  pass 1"], "1   76b3e02c4885  ann@a  pass 2\n"),
    ],
)
def test_what_is_another_result_does_not_agree(expected: list[str], printed: str) -> None:
    assert not agrees(expected, printed)


def test_every_noria_of_a_command_line_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ noria ls \\\n> /a | wc -l; time noria status 'x y' > z\n```\n")
    ((command,),) = [block.commands for block in blocks(page)]
    assert list(noria_arguments(command)) == [["ls", "/a"], ["status", "x y"]]
    assert shlex.split(command.text.replace("\\\n", ""))[0] == "noria"
