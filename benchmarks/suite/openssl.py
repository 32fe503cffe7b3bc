"""The OpenSSL that measured Pythons speak https with, if their interpreter's own is an old one.

OpenSSL 3.5 comes with Debian 13. On a machine with an older one, `make bench-tools` fetches a wheel
from PyPI that carries libssl 3.5 and libcrypto for its own use (psycopg-binary, pinned by hash),
and the suite lends the two to each Python that it measures, by LD_LIBRARY_PATH: the interpreter
stays the same, and so does every line of Python. That is a stand for measuring. Nobody should run
a job like that: take an interpreter that comes with OpenSSL 3.5.
"""

from __future__ import annotations

import functools
import os
import ssl
import subprocess
import sys
from pathlib import Path

from noria.benchmarks.servers import ROOT

LENT_FOLDER = ROOT / "build" / "openssl" / "psycopg_binary.libs"
RECOMMENDED_VERSION = (3, 5)


def lent_library() -> Path | None:
    """The folder that holds what is lent.

    None if this interpreter's own library will do, or if nothing was fetched.
    """
    own = ssl.OPENSSL_VERSION_INFO >= RECOMMENDED_VERSION
    return None if own or not (LENT_FOLDER / "libssl.so.3").exists() else LENT_FOLDER


def library_environment() -> dict[str, str]:
    """What makes a Python take the lent library; empty if none is lent."""
    folder = lent_library()
    return {} if folder is None else {"LD_LIBRARY_PATH": str(folder)}


@functools.cache
def measured_library() -> str:
    """The TLS library of measured Pythons, as they name it themselves, and whose it is."""
    said = subprocess.run(
        [sys.executable, "-I", "-c", "import ssl; print(ssl.OPENSSL_VERSION)"],
        env={"PATH": os.defpath, **library_environment()},
        capture_output=True,
        check=True,
        text=True,
    ).stdout.strip()
    if lent_library() is None:
        return f"{said}, the interpreter's own"
    return (
        f"{said}, lent by a wheel through LD_LIBRARY_PATH; the interpreter's own is {own_library()}"
    )


def own_library() -> str:
    """Name and version, without the date: "OpenSSL 3.0.19"."""
    return " ".join(ssl.OPENSSL_VERSION.split()[:2])
