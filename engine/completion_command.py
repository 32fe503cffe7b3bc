"""The command `noria completion`: what shells and man(1) want to know of the commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from noria.engine.terminal.console import exit_codes, print_lines
from noria.version import VERSION


class Form(StrEnum):
    """What is printed."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    MAN = "man"


def add_commands(app: typer.Typer) -> None:
    """Give `app` the command below, after its own."""
    app.command("completion")(print_completion)


def print_completion(
    context: typer.Context,
    form: Annotated[
        Form, typer.Argument(metavar="bash|zsh|fish|man", help="A shell, or man for noria(1).")
    ],
) -> None:
    """Print a script that completes commands and options in a shell; or the man page.

    \b
    Examples:
      source <(noria completion bash)
      noria completion bash > ~/.local/share/bash-completion/completions/noria
      noria completion zsh > ~/.zfunc/_noria
      noria completion fish > ~/.config/fish/completions/noria.fish
      noria completion man > ~/.local/share/man/man1/noria.1
    """
    with exit_codes(False, resumes=False):
        from noria.engine.terminal import completion
        from noria.engine.terminal.command_tree import declared, declared_commands
        from noria.engine.terminal.man_page import man_page

        group = context.find_root().command
        root, commands = declared("noria", group, context), declared_commands(group, context)
        if form is Form.MAN:
            text = man_page(root, commands, VERSION)
        else:
            scripts = {
                Form.BASH: completion.bash_script,
                Form.ZSH: completion.zsh_script,
                Form.FISH: completion.fish_script,
            }
            text = scripts[form](root, commands)
        print_lines([text.rstrip("\n")])
        raise typer.Exit(0)
