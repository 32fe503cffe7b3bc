"""The command line, as its own library declares it: each command, and each list of exit codes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer.main

from docs.reference.tables import table
from noria.__main__ import main as _with_all_commands  # noqa: F401 - gives `app` all of them
from noria.engine.cli import app
from noria.manifests.errors import Fatal

HEAD = """# Commands

Made from the declarations of the commands; `noria COMMAND --help` prints the same. Every command
ends with one of these [exit codes](exit-codes.md).

"""
EXIT_CODES_HEAD = """# Exit codes

Made from the help of the commands, and from the errors that there are.

"""
_EXIT_CODES = "Exit codes:"


def command_line() -> Any:
    """The whole command line, as the library has it."""
    return typer.main.get_command(app)


def commands() -> Iterator[tuple[str, Any, Any]]:
    """Each command's whole name, the command, and the context in which it describes itself."""
    root = command_line()
    yield from _below(root, root.make_context("noria", [], resilient_parsing=True))


def _below(command: Any, context: Any) -> Iterator[tuple[str, Any, Any]]:
    yield context.command_path, command, context
    for name in command.list_commands(context) if hasattr(command, "list_commands") else ():
        child = command.get_command(context, name)
        if not child.hidden:
            inside = child.make_context(name, [], parent=context, resilient_parsing=True)
            yield from _below(child, inside)


def commands_page() -> str:
    """The text of reference/commands.md."""
    return HEAD + "\n".join(_section(*each) for each in commands())


def _section(name: str, command: Any, context: Any) -> str:
    arguments: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            # `[default: 3]` and `[x>=1]` would be taken for links.
            row = (f"`{record[0].strip()}`", _in_code(record[1]).replace("[", "\\["))
            (arguments if parameter.param_type_name == "argument" else options).append(row)
    parts = [
        f"## {name}\n",
        f"```text\n{_usage(command, context)}\n```\n",
        _prose(command.help or ""),
        table(("argument", "meaning"), arguments) if arguments else "",
        table(("option", "meaning"), options) if options else "",
    ]
    return "\n".join(part for part in parts if part)


def _usage(command: Any, context: Any) -> str:
    return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def _prose(text: str) -> str:
    """A help text as Markdown: what keeps its lines there keeps them here."""
    shown = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            title, _, rest = paragraph.removeprefix("\b").strip("\n").partition("\n")
            shown.append(f"{title.strip()}\n\n```text\n{inspect.cleandoc(rest)}\n```\n")
        else:
            shown.append(_in_code(" ".join(paragraph.split())) + "\n")
    return "\n".join(shown)


def _in_code(text: str) -> str:
    """Options and patterns in code, so that nothing of them is taken for Markdown."""
    return re.sub(r"(?<![\w`-])(--?[a-z][a-z-]*|[\w./]*\*[\w./*-]*)(?![\w`])", r"`\1`", text)


def exit_codes_page() -> str:
    """The text of reference/exit-codes.md."""
    parts = []
    for name, command, _ in commands():
        if rows := _exit_codes(command.help or ""):
            words = "every command that is not named below" if name == "noria" else f"`{name}`"
            parts.append(f"## {name}\n\nOf {words}.\n\n" + table(("code", "meaning"), rows))
    ends = [
        (
            f"[`{kind.cause}`](../how-to/troubleshoot.md#{kind.cause})",
            str(kind.exit_code),
        )
        for kind in _concrete(Fatal)
    ]
    parts.append(
        "## What ends a run\n\nA cause that concerns the whole job ends the command with one line. "
        "What had landed stays, and the job can be resumed.\n\n" + table(("cause", "code"), ends)
    )
    return EXIT_CODES_HEAD + "\n".join(parts)


def _exit_codes(text: str) -> list[tuple[str, str]]:
    """The rows below "Exit codes:" in a help text."""
    _, found, rest = inspect.cleandoc(text).partition(_EXIT_CODES + "\n")
    block = rest.split("\n\n")[0] if found else ""
    return [(code, says) for code, says in re.findall(r"^\s*(\d+)  (.+)$", block, re.MULTILINE)]


def _concrete(kind: type[Fatal]) -> Iterator[type[Fatal]]:
    """The classes that have a cause of their own."""
    for child in kind.__subclasses__():
        if "cause" in vars(child):
            yield child
        yield from _concrete(child)
