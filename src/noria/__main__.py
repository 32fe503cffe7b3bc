"""The command `noria`: what moves, what only looks, and the two of the benchmarks, put together."""

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

from noria.benchmarks.commands import add_commands as add_benchmarks
from noria.engine.cli import app, run_command
from noria.engine.completion_command import add_commands as add_completion
from noria.engine.config_command import add_commands as add_config
from noria.engine.cutover_command import add_commands as add_cutover
from noria.engine.estimate_command import add_commands as add_estimate
from noria.engine.init_command import add_commands as add_init
from noria.engine.look_commands import add_commands as add_looks
from noria.engine.proof_command import add_commands as add_proofs
from noria.engine.report_command import add_commands as add_report
from noria.engine.steer_command import add_commands as add_steering
from noria.engine.sync_command import add_commands as add_sync

__all__ = ("app", "main")

add_sync(app)
add_cutover(app)
add_steering(app)
add_proofs(app)
add_looks(app)
add_report(app)
add_config(app)
add_init(app)
add_completion(app)
add_estimate(app)
add_benchmarks(app)


def main() -> None:
    """Entry point of the command."""
    run_command(app)


if __name__ == "__main__":
    main()
