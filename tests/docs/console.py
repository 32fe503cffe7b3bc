"""Blocks of commands in documents: what a reader would type, and what he would see.

    ```console
    $ noria status move-1
    job 2f0c...: finished at 2026-11-28 04:00:00 UTC
    ...
    ```

Commands begin with `$ `; lines that go on with one begin with `>`. What follows is what it prints:
the lines of Noria's own on standard error ("noria: ..."), without the display of progress, then
standard output. `...` stands for anything in a line, and alone on a line for any lines. What
differs from run to run (times, rates, ports, digests, versions) may be anything of its kind.

A block that has to have something that is not here says so above it, to the reader too:

    ```console title="needs your account"

All blocks of a document run in one shell, in order, in a new folder. The front matter of a page may
name `servers: demo`: the two stores of `make demo-servers`, before the first block.

    python -m tests.docs.console PAGE...     # write what is printed now into the pages
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from noria.benchmarks.servers import ROOT

PAGES = ROOT / "docs/pages"
SECONDS = 240
"""For all commands of a document, on a machine with other work."""
SERVERS_SECONDS = 60
DEMO_BYTES = 20_000_000
DEMO_ENVIRONMENT = "build/demo.env"
"""Where `make demo-servers` writes what leads to its stores, and where pages read it."""

_FENCE = re.compile(r"```(\w+)?(.*)")
_TITLE = re.compile(r'title="([^"]*)"')
_SETTLED = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22,}\b|\b[0-9a-f]{8,}\b"), "HEX"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"(?<=Python )[\d.]+(?=, ).*|(?<=^noria )\d[\d.]+(?=, Python)"), "VERSION"),
    (re.compile(r"\b[\d.,]+ ([kMG]?B|objects)/s"), "RATE"),
    (re.compile(r"\(between \S+ and \S+\)"), "(between FIGURES)"),
    (re.compile(r"(?<=a freeze of about )\d+ \w+|(?<=the lag is )[\d.]+ m?s"), "DURATION"),
    (re.compile(r"[\d.]+ m?s(?= apart)"), "DURATION"),
    (re.compile(r"(?<=TIME  )[\d.]+ m?s +[\d.]+ m?s +|took +lag +"), "TOOK  LAG  "),
    (re.compile(r"\b[\w.-]+@[\w.-]+ +|\bwho +(?=what)"), "WHO  "),
    (
        re.compile(r"(?<=\bin )(less than )?[\d.,]+ ?(ms|s|min|h)\b( [\d.]+ ?(s|min)\b)?"),
        "DURATION",
    ),
    (re.compile(r"(?<=\()[\d.,]+ s(?=\)$)", re.MULTILINE), "DURATION"),
)
"""What differs from run to run, and what it is compared as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command of a document, and what the document says that it prints."""

    line: int
    """Of its first line, counted from 1."""
    text: str
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of commands."""

    line: int
    needs: str
    """What it has to have that is not here; empty if it runs."""
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FencedBlock:
    """Any fenced block."""

    line: int
    language: str
    title: str
    body: tuple[str, ...]


def fences(path: Path) -> Iterator[FencedBlock]:
    """All fenced blocks of a document, in order."""
    opened: tuple[int, re.Match[str]] | None = None
    body: list[str] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = _FENCE.fullmatch(line.rstrip())
        if opened is None and found:
            opened, body = (number, found), []
        elif opened is not None and line.rstrip() == "```":
            start, head = opened
            title = _TITLE.search(head[2])
            yield FencedBlock(
                line=start,
                language=head[1] or "",
                title=title[1] if title else "",
                body=tuple(body),
            )
            opened = None
        else:
            body.append(line)


def blocks(path: Path) -> list[Block]:
    """The blocks of commands of a document, in order."""
    return [
        Block(line=fence.line, needs=fence.title, commands=tuple(_commands(fence)))
        for fence in fences(path)
        if fence.language == "console"
    ]


def _commands(fence: FencedBlock) -> Iterator[Command]:
    typed: list[str] = []
    expected: list[str] = []
    start = 0
    for number, line in enumerate(fence.body, fence.line + 1):
        if line.startswith("$ "):
            if typed:
                yield Command(line=start, text="\n".join(typed), expected=tuple(expected))
            typed, expected, start = [line[2:]], [], number
        elif (line == ">" or line.startswith("> ")) and not expected:
            typed.append(line[2:])
        else:
            expected.append(line)
    assert typed, f"the block at line {fence.line} does not begin with a command"
    yield Command(line=start, text="\n".join(typed), expected=tuple(expected))


def servers_of(path: Path) -> str:
    """What the front matter of a page asks to be started; empty if nothing."""
    text = path.read_text()
    if not text.startswith("---\n"):
        return ""
    front = yaml.safe_load(text.split("---\n")[1]) or {}
    return str(front.get("servers", ""))


# -- running ---------------------------------------------------------------------------------------


def run(commands: Sequence[Command], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """What each command prints, run one after another in one shell, in `folder`."""
    with tempfile.TemporaryDirectory() as outputs:
        script = Path(outputs) / "script"
        script.write_text(
            "".join(
                f"{{\n{command.text}\n}} < /dev/null > {outputs}/{n}.out 2> {outputs}/{n}.err\n"
                for n, command in enumerate(commands)
            )
        )
        shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc", script],
            cwd=folder,
            env={**environment, "PWD": str(folder)},
            start_new_session=True,
        )
        try:
            shell.wait(SECONDS)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
        return [_printed(Path(outputs), n) for n in range(len(commands))]


def _printed(outputs: Path, n: int) -> str:
    errors = (outputs / f"{n}.err").read_text().splitlines(keepends=True)
    said = (line for line in errors if line.startswith(("noria: ", "bash: ")))
    return "".join(said) + (outputs / f"{n}.out").read_text()


def clean_environment(folder: Path) -> dict[str, str]:
    """The environment of a reader who has just installed Noria."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"AWS_|AZURE_|NORIA_|RAY_|RCLONE_|.*_PROXY$", name, re.IGNORECASE)
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "COLUMNS": "100", "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}


@contextmanager
def demo_servers(environment_file: Path) -> Iterator[None]:
    """The stores of `make demo-servers`, until the end of the block."""
    command = [
        sys.executable, "-m", "noria.benchmarks.studies.demo", "--serve",
        "--bytes", str(DEMO_BYTES), "--environment", str(environment_file),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + SERVERS_SECONDS
            while not environment_file.exists():
                assert process.poll() is None, "the servers of the demo ended"
                assert time.monotonic() < deadline, "the servers of the demo do not come up"
                time.sleep(0.05)
            yield
        finally:
            process.send_signal(signal.SIGINT)


# -- comparing -------------------------------------------------------------------------------------


def agrees(expected: Sequence[str], printed: str) -> bool:
    """True if a command printed what its document says."""
    pattern = "".join(_pattern(line) for line in expected)
    return re.fullmatch(pattern, settled(_ended(printed))) is not None


def settled(text: str) -> str:
    """The text with what differs from run to run taken out."""
    for pattern, kind in _SETTLED:
        text = pattern.sub(kind, text)
    return text


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    return "[^\n]*".join(re.escape(part) for part in settled(line.rstrip()).split("...")) + "\n"


def _ended(printed: str) -> str:
    lines = [line.rstrip() for line in printed.splitlines()]
    while lines and not lines[-1]:
        del lines[-1]
    return "".join(f"{line}\n" for line in lines)


def noria_arguments(command: Command) -> Iterator[list[str]]:
    """The arguments of each `noria` in a command line, without what stands before or behind it."""
    words = shlex.split(command.text.replace("\\\n", " "), comments=True)
    for n, word in enumerate(words):
        if word == "noria" and (n == 0 or words[n - 1] in ("|", "&&", "||", ";", "time")):
            rest = words[n + 1 :]
            ends = [i for i, each in enumerate(rest) if each in ("|", "&&", "||", ";", ">", "&")]
            yield rest[: ends[0]] if ends else rest


# -- writing ---------------------------------------------------------------------------------------


def refresh(path: Path) -> None:
    """Write what the commands of a page print now, where the page says something else."""
    lines = path.read_text().splitlines()
    for command, printed in reversed(list(zip(*played(path), strict=True))):
        if not agrees(command.expected, printed):
            first = command.line + command.text.count("\n")
            lines[first : first + len(command.expected)] = _ended(printed).splitlines()
    path.write_text("\n".join(lines) + "\n")


def played(path: Path) -> tuple[list[Command], list[str]]:
    """The commands of a page that run here, and what they print in a new folder."""
    commands = [each for block in blocks(path) if not block.needs for each in block.commands]
    with tempfile.TemporaryDirectory() as scratch:
        folder, temporary = Path(scratch) / "here", Path(scratch) / "tmp"
        (folder / DEMO_ENVIRONMENT).parent.mkdir(parents=True)
        temporary.mkdir()
        environment = clean_environment(temporary)
        if servers_of(path) != "demo":
            return commands, run(commands, folder, environment)
        with demo_servers(folder / DEMO_ENVIRONMENT):
            return commands, run(commands, folder, environment)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refresh(Path(name))
