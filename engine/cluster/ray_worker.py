"""The first file of a worker process of a local Ray: spares it imports, and goes on as Ray's own.

Ray starts it as it starts its own file, with the same arguments.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # Python has put the folder of this file first, where names of ours would hide others'.
    sys.path[0] = str(Path(__file__).parents[2])

    from noria.engine.cluster.imports import spare_imports

    spare_imports()
    runpy.run_module("ray._private.workers.default_worker", run_name="__main__", alter_sys=True)
