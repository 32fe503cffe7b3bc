"""The commands of `noria` as they are declared: for completion in shells and the man page."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

_PATHS = ("DIR", "FILE", "FOLDER", "PATH", "JOB")
"""Words of placeholders that stand for a path of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredOption:
    """One option of a command."""

    names: tuple[str, ...]
    metavar: str | None
    """What stands for its value; None: it takes none."""
    help: str

    @property
    def takes_path(self) -> bool:
        return self.metavar is not None and any(word in self.metavar for word in _PATHS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredCommand:
    """One command, or `noria` itself."""

    name: str
    help: str
    arguments: tuple[str, ...]
    options: tuple[DeclaredOption, ...]

    @property
    def short_help(self) -> str:
        return " ".join(self.help.partition("\n\n")[0].split())

    @property
    def option_names(self) -> Iterator[str]:
        for option in self.options:
            yield from option.names


def declared(name: str, command: Any, context: typer.Context) -> DeclaredCommand:
    """What a command of typer (click's documented interface) declares, in any context."""
    options = [
        _option(each, context) for each in command.params if each.param_type_name == "option"
    ]
    arguments = [
        each.metavar or each.name.upper()
        for each in command.params
        if each.param_type_name == "argument"
    ]
    if "--help" not in {name for option in options for name in option.names}:
        shown = "Show this message and exit."
        options.append(DeclaredOption(names=("--help",), metavar=None, help=shown))
    return DeclaredCommand(
        name=name,
        help=inspect.cleandoc(command.help or ""),
        arguments=tuple(arguments),
        options=tuple(options),
    )


def declared_commands(group: Any, context: typer.Context) -> list[DeclaredCommand]:
    """Those of a group, in the order in which its help lists them."""
    return [declared(name, command, context) for name, command in group.commands.items()]


def _option(option: Any, context: typer.Context) -> DeclaredOption:
    metavar = None if option.is_flag else option.metavar
    if metavar is None and not option.is_flag:
        # As the help has it: --workers INTEGER RANGE.
        shown, _ = option.get_help_record(context)
        metavar = shown.rpartition(option.opts[-1])[2].split()[0].strip("<>").upper()
    # A short name comes first, as manuals have it.
    names = sorted((*option.opts, *option.secondary_opts), key=lambda name: name.startswith("--"))
    return DeclaredOption(names=tuple(names), metavar=metavar, help=option.help or "")
