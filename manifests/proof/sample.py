# ruff: noqa: BLE001, T201
"""Compares objects that stores hold now with their receipts, for some that a hash has drawn.

    python3 sample.py --key VKEY --seed WORD --count 20 --target 'rclone cat to:lake/{key}' proof/
    python3 sample.py --key VKEY --seed WORD --source 'curl -sf https://host/lake/{quoted}' proof/

It needs check.py beside it, which checks the proof first, and commands that write an object to
standard output, with credentials of their own. {key} is the object's name below the prefix that
was moved, {quoted} is that with escapes. No shell is asked: a name cannot be a command.

Which objects are drawn follows from the last checkpoint, or from that of --checkpoint, and from
--seed: they are those that `noria verify --sample` reads. Who signed it knew the checkpoint; the
seed should be a word that nobody knew then: a lottery's numbers, a closing price.

Ends as check.py does: with 0 if the proof holds, and every object is as its receipt says.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
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


def order(digest: str, seed: str, size: int) -> Iterator[int]:
    """Numbers below size, each once, shuffled: its dice are hashes of a checkpoint and a seed."""
    start = b"noria.draw.1\0" + bytes.fromhex(digest) + seed.encode()
    moved: dict[int, int] = {}
    for step in range(size):
        dice = hashlib.sha256(start + step.to_bytes(8, "big")).digest()
        place = step + int.from_bytes(dice, "big") % (size - step)
        yield moved.get(place, place)
        moved[place] = moved.pop(step, step)


def standing(proof: Path, trees: list[Any], wanted: set[int]) -> dict[int, Any]:
    """Those of the leaves wanted that landed, and that no later pass has settled again."""
    found, first = dict[bytes, tuple[int, Any]](), 0
    for checkpoint in trees:
        folder = proof / "trees" / checkpoint.root.hex() / "leaves"
        for place, data in enumerate(check.leaves_of(folder, checkpoint.size), first):
            if not found and place not in wanted:
                continue
            leaf = check.Leaf(data)
            if leaf.outcome in (*LANDED, b"DELETED"):
                found.pop(leaf.key, None)
            if place in wanted and leaf.outcome in LANDED:
                found[leaf.key] = (place, leaf)
        first += checkpoint.size
    return dict(found.values())


def drawn(proof: Path, chain: list[Any], count: int, seed: str) -> list[Any]:
    """The first leaves of objects that stand, as the last checkpoint draws them from all passes.

    It is what `noria verify --sample` reads: see "Samples" of the page "Format of proofs".
    """
    last = {each.of: each for each in chain if each.fields["kind"] == "moved"}
    trees = [each for _, each in sorted(last.items())]
    if not all(each.is_whole for each in trees):
        return []
    places = order(chain[-1].digest, seed, sum(each.size for each in trees))
    found: list[Any] = []
    while len(found) < count:
        some = list(islice(places, 2 * (count - len(found)) + 64))
        if not some:
            break
        stand = standing(proof, trees, set(some))
        found += [stand[place] for place in some if place in stand]
    return found[:count]


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
    """What became of it: `same`, `same size`, or what is wrong."""
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
    parser.add_argument("--checkpoint", type=int, metavar="N", help="draw as from this one")
    parser.add_argument("--target", metavar="COMMAND")
    parser.add_argument("--source", metavar="COMMAND")
    asked = parser.parse_args()
    commands = {"target": asked.target, "source": asked.source}
    if not any(commands.values()) or asked.count < 1:
        parser.error("nothing to compare: give --target or --source, and a --count of 1 or more")
    unchecked = [] if asked.key else ["who has signed: no --key was given"]
    try:
        chain = check.check_directory(asked.proof, [check.key_of(k) for k in asked.key], unchecked)
        number = asked.checkpoint or len(chain)
        check.need(0 < number <= len(chain), f"there is no checkpoint {number}")
        objects = drawn(asked.proof, chain[:number], asked.count, asked.seed)
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
