"""The C programs of this folder, compiled when they are first asked for.

Each lies in `build/` under a name with the digest of all that it was made of: a change makes a new
one, and two processes may build at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
TOOLS = FOLDER.parents[1] / ".tools"

FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-pthread")
LIBRARIES = ("-lssl", "-lcrypto")
SERVER = ("http.c", "keys.c", "pattern.c", "text.c", "tls.c")
SINK = ("sink.c", "sink_bodies.c", "sink_listings.c", "sink_objects.c", "sink_uploads.c")
SOURCES = {
    "null-source": ("source.c", *SERVER),
    "null-sink": (*SINK, "crc64nvme.c", *SERVER),
    "null-loop": ("loop.c", "tls.c"),
    "null-road": ("road.c", "text.c"),
}


class BuildFailed(Exception):
    """A program could not be built.

    The message is one line that names what to install, or what the compiler said.
    """


def build(name: str) -> Path:
    """The program `name` of SOURCES. Raises BuildFailed."""
    compiler = find_compiler()
    command = [compiler, *FLAGS, *(str(FOLDER / source) for source in SOURCES[name])]
    program = FOLDER / "build" / f"{name}-{_digest(command)}"
    if program.exists():
        return program
    if not _has_header(compiler, "openssl/ssl.h"):
        raise BuildFailed("openssl/ssl.h is missing: apt-get install libssl-dev")
    if name == "null-loop" and not _has_header(compiler, "xxhash.h"):
        command.append(f"-I{find_xxhash()}")
    program.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        made = Path(folder) / name
        done = subprocess.run(
            [*command, "-o", str(made), *LIBRARIES], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise BuildFailed(f"{compiler} could not make {name}:\n{done.stderr}")
        os.replace(made, program)
    return program


def find_compiler() -> str:
    """Raises BuildFailed."""
    found = shutil.which("cc")
    if found is None:
        raise BuildFailed("there is no cc: apt-get install gcc libc6-dev libssl-dev")
    return found


def _digest(command: list[str]) -> str:
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(repr((command, version)).encode())
    for path in sorted(FOLDER.glob("*.[ch]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _has_header(compiler: str, header: str) -> bool:
    question = f"#include <{header}>\n".encode()
    command = [compiler, "-E", "-xc", "-"]
    return subprocess.run(command, input=question, capture_output=True, check=False).returncode == 0


def find_xxhash() -> Path:
    """The folder of a private xxhash.h, fetched from Debian if it is not there yet.

    Nothing is installed, and nobody has to be root. Raises BuildFailed.
    """
    folder = TOOLS / "usr/include"
    if (folder / "xxhash.h").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as scratch:
        header = Path(scratch) / "xxhash.h"
        header.write_bytes(_header_of_package(Path(scratch)))
        os.replace(header, folder / "xxhash.h")
    return folder


def _header_of_package(scratch: Path) -> bytes:
    # The machine's own package lists may be missing or old, and may not be ours to renew.
    private = [f"-oDir::State::Lists={scratch}/lists", f"-oDir::Cache={scratch}/cache"]
    for part in ("lists/partial", "cache/archives/partial"):
        (scratch / part).mkdir(parents=True)
    download = ["download", "libxxhash-dev"]
    steps = ([download], [[*private, "update"], [*private, *download]])
    try:
        if not any(all(_apt(words, scratch) for words in step) for step in steps):
            raise BuildFailed("xxhash.h is missing, and no Debian package came: install it")
        [package] = scratch.glob("libxxhash-dev_*.deb")
        command = ["dpkg-deb", "--fsys-tarfile", str(package)]
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise BuildFailed(
            "xxhash.h is missing, and there is no apt-get to get libxxhash-dev with: "
            "install xxHash's header"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        header = files.extractfile("./usr/include/xxhash.h")
        assert header is not None, "it is a file"
        return header.read()


def _apt(words: list[str], folder: Path) -> bool:
    command = ["apt-get", "-q=2", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
