"""The first file of a process of Noria's own: puts the module path right, then runs one module.

    python -P -E bootstrap.py PACKAGE MODULE CHANNEL PARENT SIGNAL

PACKAGE is the folder of the `noria` that the parent runs. It is loaded from there and nowhere else,
without its parent folder on the module path: what lies beside it is not Noria's. The path holds the
interpreter's own folders, and those that NORIA_PYTHONPATH names.

The kernel sends SIGNAL to this process when PARENT ends, whatever ends it. Imports nothing of Noria
before the module path is right.
"""

import importlib
import importlib.util
import os
import socket
import sys

PR_SET_PDEATHSIG = 1


def main(package: str, module: str, channel: int, parent: int, signal_number: int) -> None:
    """Run `module`.main() with the channel to the parent."""
    _end_with(parent, signal_number)
    asked_for = os.environ.get("NORIA_PYTHONPATH", "").split(os.pathsep)
    sys.path.extend(folder for folder in asked_for if os.path.isabs(folder))
    spec = importlib.util.spec_from_file_location(
        "noria", os.path.join(package, "__init__.py"), submodule_search_locations=[package]
    )
    assert spec is not None, "a file has a spec"
    assert spec.loader is not None, "a file has a loader"
    sys.modules["noria"] = loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    try:
        from noria.engine.cluster.child import Channel, end_process

        importlib.import_module(module).main(Channel(socket.socket(fileno=channel)))
    except ModuleNotFoundError as error:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(_explain(error))
    end_process(0)


def _explain(error: ModuleNotFoundError) -> str:
    """The last words of a process that lacks a module."""
    words = f"{type(error).__name__}: {error}"
    if "PYTHONPATH" not in os.environ:
        return words
    return f"{words}; PYTHONPATH does not count here, name its folder in NORIA_PYTHONPATH as well"


def _end_with(parent: int, signal_number: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent has ended already")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
