# fmt: off
# ruff: noqa: B905, BLE001, E401, I001, T201, UP014, UP035
"""Checks proofs of a migration, with Python 3.9 or newer and nothing else.

    python3 check.py --key VKEY proof/                        a whole migration
    python3 check.py --key VKEY [--name NAME] FILE...         proofs of single objects
    python3 check.py --key VKEY proof/ copy-of-a-checkpoint   and that its end was not cut off

It follows the page "Format of proofs", shares no code with what makes them, and only reads files.
Get it, and the keys, from somewhere else than what you check with them. What it shows:

    signatures   those whose keys you trust have stated these texts
    chain        no checkpoint was changed, exchanged or left out before the last one that is here
    leaves       these receipts, all of them and no others, were signed, in order, and counted right
    history      these records of passes, approvals and cutovers are those that the text names

Not that it is true: see sample.py. It ends with 0 if all holds, 1 if something does not, 2 if it
was called wrongly, 3 if nothing was found wrong but something was NOT CHECKED, as it then says.
"""
from __future__ import annotations
import argparse, base64, gzip, hashlib, json, os, re, struct, sys, time, urllib.parse
from collections import Counter
from pathlib import Path
from typing import Any, Iterator, NamedTuple

def need(holds: Any, reason: str) -> Any:
    """What it is given, if that holds. Whatever is refused ends in an exception."""
    if not holds:
        raise ValueError(reason)
    return holds

def unbase64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64 with loose bits")
    return data

def sha256(data: bytes) -> bytes: return hashlib.sha256(data).digest()
def node(left: bytes, right: bytes) -> bytes: return sha256(b"\x01" + left + right)
# -- Ed25519: RFC 8032, section 5.1 ----------------------------------------------------------------
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int, int]  # X, Y, Z: it stands for X/Z, Y/Z

def add(a: Point, b: Point) -> Point:
    x, y, z = a[0] * b[0] % P, a[1] * b[1] % P, a[2] * b[2] % P
    t, square, both = D * x % P * y % P, z * z % P, (a[0] * b[1] + a[1] * b[0]) % P
    less, more = z * (square - t) % P, z * (square + t) % P
    return (less * both % P, more * (x + y) % P, (square - t) * (square + t) % P)

def point(encoded: bytes) -> Point:
    odd, y = divmod(int.from_bytes(encoded, "little"), 2**255)
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if (x * x - square) % P == 0 else x * pow(2, (P - 1) // 4, P) % P
    need(len(encoded) == 32 and y < P and (x * x - square) % P == 0 and (x or not odd), "no point")
    return (x if x % 2 == odd else P - x, y, 1)

BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))

def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """True if S times B less k times A is R, compared in the only encoding that a point has."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % ORDER
    less = (-point(public)[0], *point(public)[1:])
    total, sums = (0, 1, 1), ((0, 1, 1), BASE, less, add(BASE, less))
    for bit in range(252, -1, -1):
        total = add(add(total, total), sums[(s >> bit & 1) + 2 * (k >> bit & 1)])
    x, y = (n * pow(total[2], -1, P) % P for n in total[:2])
    return len(signature) == 64 and s < ORDER and r == (y | x % 2 << 255).to_bytes(32, "little")
# -- checkpoints and their signatures --------------------------------------------------------------
N, SIGNED, HEX, B64 = "(?:0|[1-9][0-9]*)", "(?:0|-?[1-9][0-9]*)", "[0-9a-f]{64}", "[A-Za-z0-9+/=]+"
HASH, VALUE = "[A-Za-z0-9+/]{43}=", "(?:[!-$&-~]|%(?:[01][0-9A-F]|2[05]|7F|[89A-F][0-9A-F]))+"
COMPARED = ("landed", "listed", "unsettled", "unplanned", "missing", "differing", "merged", "extra")
FORM = (
    rf"noria/(?P<migration>[!-.0-~]+)/(?P<number>[0-9]{{6,}})\n(?P<size>{N})\n(?P<root>{HASH})\n"
    rf"noria-proof 1\njob {VALUE}\npass (?P<of>[1-9][0-9]*)\nreceipts (?P<kind>moved|read-back)\n"
    rf"previous (?P<previous>{N} {HEX})\nsource {VALUE}\ntarget {VALUE}\nmanifest {HEX}\n"
    rf"(?P<told>(?:passed-over {VALUE} {N}\n)*(?P<counts>(?:outcome {VALUE} {N} {SIGNED}\n)*"
    rf"(?:level {VALUE} {N}\n)*(?:cause {VALUE} {N}\n)*(?:change {VALUE} {N}\n)*"
    rf"last-receipt {SIGNED})\nreconciled (?:unknown\n|(?:yes|no)\n"
    rf"{''.join(f'reconcile {name} {N}{chr(10)}' for name in COMPARED)}))"
    rf"history (?P<history>{N} {HEX})\n(?:checker {HEX}\n)*noria {VALUE}\n"
)
LEAF = rf"({B64})\nindex ({N})\n((?:{HASH}\n)*)"
PROOF = (  # of inclusion, or of absence
    rf"(?:c2sp\.org/tlog-proof@v1\nextra {LEAF}|noria\.absence/v1\nkey (?P<absent>.*)\n"
    rf"(?:leaf {LEAF}){{0,2}})\n(?P<checkpoint>noria/(?s:.*))"
)
Key = NamedTuple("Key", [("name", str), ("id", bytes), ("type", int), ("public", bytes)])

def key_of(text: str) -> Key:  # of a line NAME+ID+BASE64
    row = need(re.fullmatch(rf"([^\s+]+)\+([0-9a-f]{{8}})\+({B64})", text), "not a public key")
    data = unbase64(row[3])
    key = Key(row[1], sha256(row[1].encode() + b"\n" + data)[:4], data[0], data[1:])
    need(key.id.hex() == row[2] and key.type in (1, 4), "a public key does not fit its id")
    return key

class SignedText:
    """A text of the one form, and which of the trusted keys have signed it."""
    def __init__(self, data: bytes, trusted: list[Key]) -> None:
        head, gap, signatures = data.decode().partition("\n\n")
        self.text, self.is_whole = head + "\n", False
        self.fields = need(re.fullmatch(FORM, self.text), "not a checkpoint of the only form")
        self.number, self.size, self.of = (int(self.fields[n]) for n in ("number", "size", "of"))
        self.digest, self.root = sha256(self.text.encode()).hex(), unbase64(self.fields["root"])
        over = [urllib.parse.unquote_to_bytes(c) for c in re.findall("\npassed-over (\\S+)", head)]
        in_order = over == sorted(set(over)) and self.fields["number"] == f"{self.number:06}"
        need(in_order and gap and signatures[-1:] in ("", "\n"), "a checkpoint is malformed")
        self.signers: dict[Key, str] = {}
        for line in signatures.split("\n")[:-1]:
            row = need(re.fullmatch(rf"— ([^\s\0-\x1f+]+) ({B64})", line), "not a signature")
            signature = unbase64(row[2])
            for key in trusted:
                if (key.name, key.id) == (row[1], signature[:4]):
                    self.signers[key] = self.signed(key, signature[4:])
        self.who = "; ".join(self.signers.values()) or "not signed by a trusted key"

    def signed(self, key: Key, data: bytes) -> str:
        """By whom, and when. A wrong signature of a trusted key makes the whole worthless."""
        seconds, text, when = int.from_bytes(data[:8], "big"), self.text, "signed by"
        if key.type == 4:
            data, text = data[8:], f"cosignature/v1\ntime {seconds}\n{text}"
            when = f"cosigned on {time.asctime(time.gmtime(seconds))} UTC by"
        need(is_signed(key.public, text.encode(), data), f"the signature of {key.name} is wrong")
        return f"{when} {key.name}"
# -- receipts and their tree -----------------------------------------------------------------------
class Leaf:
    """One receipt. Its texts are UTF-8; None is null."""
    def __init__(self, data: bytes) -> None:
        row = struct.unpack(">BBqQqiqqq16I", data[:118])
        version, bits, self.size, crc, chunk_bytes, self.ended = (*row[:5], row[8])
        at, texts = 118, list[Any]()
        for length in row[9:]:
            texts.append(None if length == 0xFFFFFFFF else data[at : at + length])
            at += 0 if length == 0xFFFFFFFF else length
        root = texts.pop(12)
        absent = (bits & 1 or not crc) and (bits & 2 or not chunk_bytes)
        need(at == len(data) and version == 1 and bits < 4 and absent, "a leaf is malformed")
        need(None not in texts[:3] and (root is None or len(root) == 32), "a leaf is malformed")
        need([text.decode() for text in texts if text], "a leaf is malformed")
        self.key, self.target_key, self.outcome, self.cause, _, self.level = texts[:6]
        self.crc = crc if bits & 1 else None
        self.changes = [] if texts[12] is None else texts[12].split(b",")

def root_of(row: list[bytes]) -> bytes:
    """Two and two; what is left over goes up. So what lies to the left is always full."""
    while len(row) > 1:
        row = [node(*row[n : n + 2]) for n in range(0, len(row) - 1, 2)] + row[len(row) & ~1 :]
    return row[0] if row else sha256(b"")

def root_by_path(top: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root of the tree that has this hash of a leaf at its index."""
    need(0 <= index < size and bool(path) == (size > 1), "an index or a path is not of the tree")
    if not path:
        return top
    half = 1 << (size - 1).bit_length() - 1
    if index < half:
        return node(root_by_path(top, index, half, path[:-1]), path[-1])
    return node(path[-1], root_by_path(top, index - half, size - half, path[:-1]))

def group(number: int) -> str:  # 5 is 005, 1234067 is x001/x234/067
    return re.sub("(...)(?=.)", r"x\1/", "0" * (-len(str(number)) % 3) + str(number))

def leaves_of(folder: Path, size: int) -> Iterator[bytes]:
    for first in range(0, size, 65536):
        with gzip.open(folder / f"{group(first // 65536)}.gz") as file:
            for _ in range(min(65536, size - first)):
                yield file.read(int.from_bytes(file.read(4), "big"))
            need(not file.read(1), f"{folder} has more leaves than were signed")

def quoted(text: bytes) -> str:
    return "".join(chr(b) if 33 <= b <= 126 and b != 37 else f"%{b:02X}" for b in text)

def check_leaves(tree: Path, checkpoint: SignedText) -> str:
    """They are those that were signed, in order. Returns what a text has to say of them."""
    said = {kind: Counter[Any]() for kind in ("outcome", "level", "cause", "change")}
    size, last, ended, row, block = Counter[bytes](), None, 0, list[bytes](), list[bytes]()
    for data in leaves_of(tree / "leaves", checkpoint.size):
        leaf = Leaf(data)
        need(last is None or last.key < leaf.key, "names of leaves do not rise")
        last, ended = leaf, max(ended, leaf.ended) if last else leaf.ended
        for kind, names in zip(said, ([leaf.outcome], [leaf.level], [leaf.cause], leaf.changes)):
            said[kind].update(set(names) - {None})
        size[leaf.outcome] += leaf.size
        block.append(sha256(b"\x00" + data))
        if len(block) == 256:
            row.append(root_of(block))
            block = []
    need(root_of(row + [root_of(block)] * bool(block)) == checkpoint.root, "the root differs")
    told = "".join(
        f"{kind} {quoted(name)} {count}" + (f" {size[name]}\n" if kind == "outcome" else "\n")
        for kind in said for name, count in sorted(said[kind].items())
    ) + f"last-receipt {ended}"
    level = 1
    while row:  # tiles prove nothing of their own; those that are there have to be right
        for n in range(0, len(row), 256):
            part = row[n : n + 256]
            path = tree / f"tile/{level}/{group(n // 256)}{f'.p/{len(part)}' * (len(part) < 256)}"
            need(not path.exists() or path.read_bytes() == b"".join(part), f"{path} is wrong")
        level, row = level + 1, [root_of(row[n : n + 256]) for n in range(0, len(row) - 255, 256)]
    return told
# -- what is asked: a directory, files -------------------------------------------------------------
def vouch(found: SignedText, keys: list[Key], all_others: bool) -> None:
    """A trusted key has signed it; of the head, all those have that are trusted to cosign."""
    operators, others = ({key for key in keys if key.type == type} for type in (1, 4))
    signers, what = found.signers.keys(), f"checkpoint {found.number} lacks a signature of"
    need(not keys or signers & (operators or others), f"{what} a trusted key")
    need(not all_others or signers >= others, f"{what} all that are to cosign it")

def check_history(folder: Path, chain: list[SignedText]) -> None:
    """Records up to the one that the last checkpoint names are a chain, which all of them name."""
    number, digest = chain[-1].fields["history"].split()
    known = {f"{number} {digest}"}
    for n in range(int(number), 0, -1):
        data = (folder / f"{n:06}.json").read_bytes()
        record = json.loads(data)
        need(sha256(data).hex() == digest and record["number"] == n, f"{folder}: record {n}")
        if record.get("kind") == "verified":
            print(f"record {n}: verified,", *(f"{record[k]!a}" for k in ("at", "by", "facts")))
        digest, known = record["previous"], known | {f"{n - 1} {record['previous']}"}
    need(known >= {f"0 {'0' * 64}", *(each.fields["history"] for each in chain)}, "another history")

def check_directory(folder: Path, keys: list[Key], unchecked: list[str]) -> list[SignedText]:
    chain, last, told, previous = [], {}, dict[bytes, str](), f"0 {'0' * 64}"
    for number in range(1, 1 + sum(path.name.isdigit() for path in folder.iterdir())):
        found = SignedText((folder / f"{number:06}/checkpoint").read_bytes(), keys)
        need((found.number, found.fields["previous"]) == (number, previous), f"no way to {number}")
        previous, last[found.of, found.fields["kind"]] = f"{number} {found.digest}", found
        chain.append(found)
    need(len({each.fields["migration"] for each in chain}) == 1, f"{folder}: not one migration")
    for found in chain:
        is_last, tree = found in last.values(), folder / "trees" / found.root.hex()
        what = f"{found.number}, pass {found.of}, {found.fields['kind'] if is_last else 'replaced'}"
        if is_last:
            vouch(found, keys, all_others=found is chain[-1])
        if (tree / "leaves").is_dir() or found.size == 0:
            told[found.root] = told.get(found.root) or check_leaves(tree, found)
            need(told[found.root] == found.fields["counts"], f"{what}: other counts")
            found.is_whole = True
        elif is_last:
            unchecked.append(f"checkpoint {what}: {tree / 'leaves'} is not here")
        print(f"checkpoint {what}: {found.who}, root {tree.name}\n{found.fields['told']}", end="")
    print(f"SHA-256 of the last: {found.digest} (a copy elsewhere shows if more followed)")
    history, checkers = folder.parent / "history", re.findall(f"\nchecker ({HEX})", found.text)
    if history.is_dir() or found.fields["history"] == f"0 {'0' * 64}":
        check_history(history, chain)
    else:
        unchecked.append(f"the history: {history} is not here")
    own = sha256((folder / "check.py").read_bytes()).hex() if checkers else ""
    need(own in checkers or not checkers, f"{folder / 'check.py'} is not the one that was signed")
    return chain

def check_file(path: Path, keys: list[Key], name: bytes | None, chain: list[SignedText]) -> bool:
    """A proof, or a checkpoint alone. False: it rests on an order of leaves that is unchecked."""
    text = path.read_bytes().decode()
    row = re.fullmatch(PROOF, text)
    found = SignedText((row["checkpoint"] if row else text).encode(), keys)
    vouch(found, keys, all_others=not chain)  # those of a chain have signed its last one
    print(f"{path}: checkpoint {found.number},", found.who)
    need(not chain or found.text in [each.text for each in chain], f"{path}: not in that chain")
    leaves, what = {}, f"{path}: pass {found.of}, receipts {found.fields['kind']}:"
    for code, index, hashes in re.findall(f"(?:extra|leaf) {LEAF}", text if row else ""):
        top, way = sha256(b"\x00" + unbase64(code)), [unbase64(each) for each in hashes.split()]
        need(root_by_path(top, int(index), found.size, way) == found.root, f"{what} another root")
        leaves[int(index)] = leaf = Leaf(unbase64(code))
    if row and row["absent"] is None:
        need(name in (None, leaf.key), f"{what} {leaf.key!r} is another name")
        print(f"{what} {leaf.key.decode()!a} {leaf.outcome.decode()!a}, {leaf.size} bytes")
    elif row:
        absent = unbase64(row["absent"])
        below = max([-1, *(index for index, leaf in leaves.items() if leaf.key < absent)])
        above = min([found.size, *(index for index, leaf in leaves.items() if leaf.key > absent)])
        need(below + 1 == above and name in (None, absent), f"{what} not the absence asked for")
        print(f"{what} none for {absent.decode()!a}")
        return found.size < 2 or any(c.root == found.root and c.is_whole for c in chain)
    return True

def main() -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="proof/, or a file")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY", help="one you trust")
    parser.add_argument("--name", type=os.fsencode, help="what proofs in files have to be about")
    asked = parser.parse_args()
    unchecked = [] if asked.key else ["who has signed: no --key was given"]
    try:
        keys, chain = [key_of(text) for text in asked.key], []
        for path in sorted(asked.paths, key=Path.is_file):
            if path.is_dir():
                chain = check_directory(path, keys, unchecked)
            elif not check_file(path, keys, asked.name, chain):
                unchecked.append(f"{path}: order of leaves")
    except Exception as error:
        print(f"REFUSED: {error or repr(error)}")
        return 1
    print("".join(f"NOT CHECKED: {each}\n" for each in unchecked), end="")
    print("nothing wrong was found" if unchecked else "all of it holds")
    return 3 if unchecked else 0

if __name__ == "__main__":
    sys.exit(main())
