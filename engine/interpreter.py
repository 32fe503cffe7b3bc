"""The Python that runs Noria, and the TLS library that it speaks https with.

Noria has no TLS code of its own: Python's `ssl` does the work, so what https costs depends on the
OpenSSL that the interpreter was linked with.
"""

from __future__ import annotations

import re
import ssl
import sys
from collections.abc import Set
from pathlib import Path
from typing import Final

FAST_VERSION: Final = (3, 1)
"""The first OpenSSL that encrypts AES-GCM with AVX-512: https://github.com/openssl/openssl/pull/17239.

CPU seconds for each GB that a connection of Python's takes in, on an AMD EPYC with AVX-512: 0.33
with 3.0.19; 0.18 with 3.3.1 and 3.4.1; 0.19 with 3.5.9. Where AVX-512 is masked, there is nothing
to gain: 0.33 with 3.0.19, 0.31 with 3.5.9.
"""
FAST_INSTRUCTIONS: Final = frozenset({"avx512bw", "avx512dq", "avx512vl", "vaes", "vpclmulqdq"})
"""What that code needs of the processor, in the words of /proc/cpuinfo."""


def describe_interpreter() -> str:
    """Versions of Python and of its TLS library: "Python 3.13.5, OpenSSL 3.5.4 30 Sep 2025"."""
    return f"Python {'.'.join(map(str, sys.version_info[:3]))}, {ssl.OPENSSL_VERSION}"


def advice_on_https() -> str | None:
    """One line for who moves bytes over https with a slow TLS library; None if this one is not."""
    return _advice(ssl.OPENSSL_VERSION_INFO[:2], ssl.OPENSSL_VERSION, processor_flags())


def _advice(version: tuple[int, ...], name: str, flags: Set[str]) -> str | None:
    # Other libraries (LibreSSL, AWS-LC) count their versions in another way, and were not measured.
    if not name.startswith("OpenSSL") or version >= FAST_VERSION or not flags >= FAST_INSTRUCTIONS:
        return None
    short = " ".join(name.split()[:2])
    return (
        f"advice: https takes about a quarter more CPU with {short} than with OpenSSL 3.5; run "
        "Noria on a Python that has OpenSSL 3.5 or newer, such as that of Debian 13, or in the "
        "image of deploy/Dockerfile"
    )


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Instruction sets of the first processor, as Linux names them; empty if it names none."""
    try:
        with cpuinfo.open() as lines:
            found = next((line for line in lines if re.match(r"flags\s*:", line)), "")
    except OSError:
        return frozenset()
    return frozenset(found.partition(":")[2].split())
