"""Scripts that complete `noria` in a shell. They are whole: no shell starts Python at a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from noria.engine.terminal.command_tree import DeclaredCommand, DeclaredOption

Commands = Sequence[DeclaredCommand]


def bash_script(root: DeclaredCommand, commands: Commands) -> str:
    """For bash 4 or newer: commands and options. All else is completed as file names are."""
    names = " ".join(command.name for command in commands)
    cases = "\n".join(
        f'    {command.name}) words="{" ".join(command.option_names)}" ;;' for command in commands
    )
    return f"""# bash completion of noria
_noria() {{
  local word words command=
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in
    {names.replace(" ", "|")}) command=$word; break ;;
    esac
  done
  case $command in
    "") words="{names} {" ".join(root.option_names)}" ;;
{cases}
  esac
  COMPREPLY=()
  if [[ -z $command || ${{COMP_WORDS[COMP_CWORD]}} == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
  fi
}}
complete -o bashdefault -o default -F _noria noria
"""


def zsh_script(root: DeclaredCommand, commands: Commands) -> str:
    """For zsh: a file _noria in a folder of fpath, or sourced after compinit."""
    described = "\n".join(
        f"    {_zsh_quoted(f'{command.name}:{command.short_help}')}" for command in commands
    )
    cases = "\n".join(
        f"      {command.name})\n        _arguments -s \\\n{_zsh_lines(command)} \\\n"
        "          '*:argument:_files' ;;"
        for command in commands
    )
    return f"""#compdef noria
_noria() {{
  local context state state_descr line
  typeset -A opt_args
  local -a commands
  commands=(
{described}
  )
  _arguments -C \\
{_zsh_lines(root)} \\
    '1:command:->command' '*::argument:->rest'
  case $state in
    command) _describe command commands ;;
    rest)
      case $words[1] in
{cases}
      esac ;;
  esac
}}
if [ "$funcstack[1]" = _noria ]; then
  _noria "$@"
else
  compdef _noria noria
fi
"""


def fish_script(root: DeclaredCommand, commands: Commands) -> str:
    """For fish: a file noria.fish in ~/.config/fish/completions, or sourced."""
    return "\n".join(["# fish completion of noria", *_fish_lines(root, commands), ""])


def _zsh_lines(command: DeclaredCommand) -> str:
    return " \\\n".join(
        f"          {_zsh_quoted(text)}"
        for option in command.options
        for text in _zsh_specs(option)
    )


def _zsh_specs(option: DeclaredOption) -> Iterator[str]:
    said = option.help.replace("[", "(").replace("]", ")").replace(":", "\\:")
    for name in option.names:
        if option.metavar is None:
            yield f"*{name}[{said}]"
        else:
            action = "_files" if option.takes_path else " "
            what = option.metavar.replace(":", "\\:")
            yield f"*{name}[{said}]:{what}:{action}"


def _zsh_quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_lines(root: DeclaredCommand, commands: Commands) -> Iterator[str]:
    yield from (_fish_line("__fish_use_subcommand", option) for option in root.options)
    for command in commands:
        said = _fish_quoted(command.short_help)
        yield f"complete -c noria -f -n __fish_use_subcommand -a {command.name} -d {said}"
    for command in commands:
        seen = _fish_quoted(f"__fish_seen_subcommand_from {command.name}")
        yield from (_fish_line(seen, option) for option in command.options)


def _fish_line(condition: str, option: DeclaredOption) -> str:
    names = " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    )
    value = "" if option.metavar is None else " -r -F" if option.takes_path else " -x"
    return f"complete -c noria -n {condition} {names}{value} -d {_fish_quoted(option.help)}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
