# ruff: noqa: BLE001, T201
"""Compares objects that stores hold now with their receipts, for some that a hash has drawn.

    python3 sample.py --key VKEY --seed WORD --count 20 --target 'rclone cat to:lake/{key}' proof/
    python3 sample.py --key VKEY --seed WORD --source 'curl -sf https://host/lake/{quoted}' proof/

It needs check.py beside it, which checks the proof first, and commands that write an object to
standard output, with credentials of their own. {key} is the object's name below the prefix that
was moved, {quoted} is that with escapes. No shell is asked: a name cannot be a command.

Which objects are drawn follows from the last checkpoint and from --seed. Who signed it knew the
checkpoint; the seed should be a word that nobody knew then: a lottery's numbers, a closing price.

Ends as check.py does: with 0 if the proof holds, and every object is as its receipt says.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote


def _beside(name: str) -> Any:
    """The module in the file beside this one: no other of its name is ever taken."""
    place = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


check = _beside("check")

LANDED = (b"TRANSFERRED", b"ALREADY_PRESENT")
BLOCK_BYTES = 1 << 20
MASK = (1 << 64) - 1

TABLE = list(range(256))
"""CRC64NVME of one byte: eight steps, the lowest bit first."""
for _ in range(8):
    TABLE = [(each >> 1) ^ (0x9A6C9329AC4BC9B5 if each & 1 else 0) for each in TABLE]


def drawn(proof: Path, chain: list[Any], count: int, seed: str) -> list[Any]:
    """Leaves of the objects with the lowest hashes, each as the last pass that settled it says.

    A name has one hash: what is among the lowest of all is among the lowest of each of its passes.
    """

    def rank(leaf: Any) -> bytes:
        return hashlib.sha256(start + leaf.key).digest()

    start = (chain[-1].digest + seed).encode()
    last: dict[bytes, Any] = {}
    trees = {each.of: each for each in chain if each.fields["kind"] == "moved"}
    if not all(each.is_whole for each in trees.values()):
        return []
    for _, checkpoint in sorted(trees.items()):
        folder = proof / "trees" / checkpoint.root.hex() / "leaves"
        leaves = (check.Leaf(data) for data in check.leaves_of(folder, checkpoint.size))
        settled = (leaf for leaf in leaves if leaf.outcome in (*LANDED, b"DELETED"))
        last.update((leaf.key, leaf) for leaf in heapq.nsmallest(count, settled, key=rank))
    return heapq.nsmallest(count, last.values(), key=rank)


def held(command: str, name: bytes) -> tuple[int, int]:
    """Bytes and CRC64NVME of what the command writes for this object.

    Raises:
        ValueError: the command ends with anything but 0.
    """
    forms = {"{key}": name.decode(), "{quoted}": quote(name)}
    words = [
        re.sub(r"\{key\}|\{quoted\}", lambda found: forms[found[0]], word)
        for word in shlex.split(command)
    ]
    size, crc = 0, MASK
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while block := process.stdout.read(BLOCK_BYTES):
            size += len(block)
            for byte in block:
                crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    if process.returncode:
        raise ValueError(f"the command ended with {process.returncode}")
    return size, crc ^ MASK


def compared(leaf: Any, end: str, command: str) -> str:
    """What became of it: `same`, `same size`, `deleted by a later pass`, or what is wrong."""
    if leaf.outcome not in LANDED:
        return "deleted by a later pass"
    try:
        size, crc = held(command, leaf.target_key if end == "target" else leaf.key)
    except (OSError, ValueError) as error:
        return f"NOT READ: {error}"
    if size != leaf.size or leaf.crc not in (None, crc):
        return f"DIFFERS: {size} bytes with CRC64NVME {crc:016x}"
    return "same" if leaf.crc is not None else "same size"


def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("proof", type=Path)
    parser.add_argument("--key", action="append", default=[], metavar="VKEY")
    parser.add_argument("--seed", default="")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--target", metavar="COMMAND")
    parser.add_argument("--source", metavar="COMMAND")
    asked = parser.parse_args()
    commands = {"target": asked.target, "source": asked.source}
    if not any(commands.values()) or asked.count < 1:
        parser.error("nothing to compare: give --target or --source, and a --count of 1 or more")
    unchecked = [] if asked.key else ["who has signed: no --key was given"]
    try:
        chain = check.check_directory(asked.proof, [check.key_of(k) for k in asked.key], unchecked)
        objects = drawn(asked.proof, chain, asked.count, asked.seed)
    except Exception as error:
        print(f"REFUSED: {error or repr(error)}")
        return 1
    found = {
        (end, leaf.key): compared(leaf, end, command)
        for leaf in objects
        for end, command in commands.items()
        if command
    }
    for (end, key), words in found.items():
        print(f"{end} {key.decode()!a}: {words}")
    sized = sum(words == "same size" for words in found.values())
    if sized:
        unchecked.append(f"the bytes of {sized}, whose receipts have no CRC64NVME: just their size")
    if not found:
        unchecked.append("any object: there are none to draw from")
    wrong = sum(words.startswith(("NOT READ", "DIFFERS")) for words in found.values())
    print("".join(f"NOT CHECKED: {each}\n" for each in unchecked), end="")
    print(f"{len(found)} comparisons, {wrong} of them went wrong")
    return 1 if wrong else 3 if unchecked else 0


if __name__ == "__main__":
    sys.exit(main())
