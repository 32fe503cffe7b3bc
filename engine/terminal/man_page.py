"""The man page noria(1), from what the commands declare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from noria.engine.terminal.command_tree import DeclaredCommand

_AS_IT_IS = "\b"
"""Begins a paragraph whose lines are not filled: so click has it."""


def man_page(root: DeclaredCommand, commands: Sequence[DeclaredCommand], version: str) -> str:
    """The source of the page, for man(1) and groff."""
    return "\n".join([*_head(root, version), *_commands(commands), *_foot(root), ""])


def _head(root: DeclaredCommand, version: str) -> Iterator[str]:
    yield f'.TH NORIA 1 "" "noria {_text(version)}" "User Commands"'
    yield from (".SH NAME", f"noria \\- {_text(root.short_help.rstrip('.'))}")
    yield from (".SH SYNOPSIS", ".B noria", ".I COMMAND", "[OPTIONS] [ARGS]...")
    yield ".SH OPTIONS"
    yield from _options(root)


def _commands(commands: Sequence[DeclaredCommand]) -> Iterator[str]:
    yield ".SH COMMANDS"
    for command in commands:
        arguments = _text(" ".join(command.arguments))
        yield f'.SS "noria {command.name} [OPTIONS] {arguments}"'
        yield from _paragraphs(command.help)
        yield from _options(command)


def _foot(root: DeclaredCommand) -> Iterator[str]:
    """The paragraphs of the help of `noria` itself, each under its own title."""
    for paragraph in root.help.split("\n\n")[1:]:
        title, _, rest = paragraph.removeprefix(_AS_IT_IS).strip("\n").partition("\n")
        yield f".SH {_text(title.rstrip(':').upper())}"
        yield from _lines(rest)


def _options(command: DeclaredCommand) -> Iterator[str]:
    for option in command.options:
        value = "" if option.metavar is None else f" \\fI{_text(option.metavar)}\\fR"
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
        yield from (".TP", f"{names}{value}", _text(option.help))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        if paragraph.startswith(_AS_IT_IS):
            yield from _lines(paragraph.removeprefix(_AS_IT_IS).strip("\n"))
        else:
            yield _text(" ".join(paragraph.split()))


def _lines(text: str) -> Iterator[str]:
    yield from (".nf", *map(_text, text.split("\n")), ".fi")


def _text(text: str) -> str:
    """Text that groff shows as it is: no requests, no escapes, hyphens that can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
