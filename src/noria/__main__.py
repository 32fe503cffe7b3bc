"""The command `noria`: the commands of the engine, and the two of the benchmarks, put together."""

import sys

if sys.argv[0] == __file__ and not sys.flags.safe_path:
    # `python -m noria` puts the current folder first; what lies there is nobody's but the user's.
    # A folder that was deleted is not put there. `os` is part of the interpreter's own program.
    import os

    try:
        if sys.path[0] == os.getcwd():
            del sys.path[0]
    except FileNotFoundError:
        pass

from noria.benchmarks.commands import add_commands
from noria.engine.cli import app, run_command

add_commands(app)


def main() -> None:
    """Entry point of the command."""
    run_command(app)


if __name__ == "__main__":
    main()
