"""The command `noria`: the commands of the engine, and the two of the benchmarks, put together."""

import sys

if not sys.flags.safe_path and __spec__ is not None and sys.argv[0] == __file__:
    # `python -m noria` puts the current folder first; what lies there is nobody's but the user's.
    del sys.path[0]

from noria.benchmarks.commands import add_commands
from noria.engine.cli import app, run_command

add_commands(app)


def main() -> None:
    """Entry point of the command."""
    run_command(app)


if __name__ == "__main__":
    main()
