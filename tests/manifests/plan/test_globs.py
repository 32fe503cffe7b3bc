"""Patterns and rules for names mean what they mean to rclone, which is asked itself."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from noria.benchmarks.servers import find_tool
from noria.benchmarks.servers.process import ServerProcess, free_ports
from noria.manifests.errors import ConfigurationError
from noria.manifests.plan.globs import glob_regex, path_rules

SEED = 15
TREES = 20
SETS_OF_A_TREE = 50
SEGMENTS = (
    *("a", "b", "ab", "abc", "aab", "ba", "A", "x.jpg", "y.JPG", "a.jpg", "tmp", "2024", "é", "日"),
    *("a b", "a.b", "[a]", "{b}", "a-b", "x,y", "a+b", "(c)", "$d", "^e", "a|b", "!", "#f", "-"),
)
PIECES = (
    *("a", "b", "ab", "c", "x", ".jpg", "tmp", "2024", "é", ".", "-", "!", ",", "+", "(c)", "$d"),
    *("*", "*", "*", "**", "**", "?", "/", "/", "/", "[a-c]", "[^a]", "[ab]", "[[:alpha:]]"),
    *("{a,b}", "{a*,tmp}", "{a,b/*}", "{**,x}", "{jpg,JPG}", "{,a}", "{{[ab]+}}", "{{a.*}}"),
    *(r"\[", r"\{", r"\*", r"\d", r"\w", " ", "^e", "|", "*.jpg", "{a,{b,c}}", "{{a{1,2}}}"),
)
BAD = (
    *("a[b", "a]b", "a***", "{a", "a}b", "{{a", "{{(}}", "[b-a]", "[]", "{{a(?=b)}}", "{{*}}"),
    *(r"\y", r"a\8", "{{a{2,1}}}"),
)

Filter = dict[str, list[str]]
Ask = Callable[[Path, Filter], list[str]]


@pytest.fixture(scope="module")
def ask_rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """What rclone lists of a folder with a filter, asked of one process of it."""
    folder = tmp_path_factory.mktemp("rclone")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    command: list[str | Path] = [find_tool("rclone"), "rcd", "--rc-no-auth", "--rc-addr", address]
    server = ServerProcess(command, folder=folder, endpoint=f"http://{address}")

    def ask(tree: Path, filters: Filter) -> list[str]:
        body = {"fs": str(tree), "remote": "", "_filter": filters}
        body["opt"] = {"recurse": True, "filesOnly": True, "noModTime": True, "noMimeType": True}
        request = urllib.request.Request(
            f"http://{address}/operations/list",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, list[dict[str, Any]]] = json.load(response)
        return sorted(entry["Path"] for entry in answer["list"])

    server.start()
    try:
        yield ask
    finally:
        server.stop()


def grow_tree(root: Path, chance: random.Random) -> list[str]:
    """Write some two hundred empty files; return their names below root."""
    for _ in range(200):
        segments = chance.choices(SEGMENTS, k=chance.choice((1, 2, 2, 3, 3, 4)))
        path = root.joinpath(*segments)
        if not path.exists() and not any(above.is_file() for above in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def random_glob(chance: random.Random, names: list[str]) -> str:
    """Pieces at random, or a name of the tree with some of it replaced."""
    if chance.random() < 0.5:
        glob = "".join(chance.choices(PIECES, k=chance.randint(1, 3)))
    else:
        segments = chance.choice(names).split("/")
        for place in range(len(segments)):
            if chance.random() < 0.5:
                segments[place] = "".join(chance.choices(PIECES, k=chance.randint(1, 2)))
        glob = "/".join(segments[chance.randrange(len(segments)) :])
    return chance.choice(("", "", "/")) + glob + chance.choice(("", "", "", "/", "/**"))


def random_filter(chance: random.Random, names: list[str]) -> Filter:
    def globs(most: int) -> list[str]:
        return [random_glob(chance, names) for _ in range(chance.randint(0, most))]

    rules = [f"{chance.choice('+-')} {glob}" for glob in globs(4)]
    if rules and chance.random() < 0.1:
        rules.insert(chance.randrange(len(rules)), "!")
    return {
        "IncludeRule": globs(2) if chance.random() < 0.5 else [],
        "ExcludeRule": globs(2) if chance.random() < 0.6 else [],
        "FilterRule": rules if chance.random() < 0.6 else [],
    }


def ours(names: list[str], filters: Filter) -> list[str] | None:
    """The names that pass; None if a pattern is refused."""
    try:
        rules = path_rules(
            *(filters[kind] for kind in ("IncludeRule", "ExcludeRule", "FilterRule"))
        )
    except ConfigurationError:
        return None
    keys = pa.array(names, pa.string())
    passed: list[str] = keys.filter(rules.passes(keys)).to_pylist()
    return passed


def theirs(tree: Path, filters: Filter, ask: Ask) -> list[str] | None:
    try:
        return ask(tree, filters)
    except urllib.error.HTTPError:
        return None


def test_a_thousand_random_filters_leave_what_rclone_leaves(
    ask_rclone: Ask, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    seen = {"some": 0, "all": 0, "none": 0, "refused": 0}
    for number in range(TREES):
        tree = tmp_path / str(number)
        tree.mkdir()
        names = grow_tree(tree, chance)
        for _ in range(SETS_OF_A_TREE):
            filters = random_filter(chance, names)
            expected = theirs(tree, filters, ask_rclone)
            assert ours(names, filters) == expected, filters
            if expected is None:
                seen["refused"] += 1
            else:
                seen["none" if not expected else "all" if expected == names else "some"] += 1
    # The cases tell something.
    assert seen["some"] > 300
    assert all(seen.values()), seen


@pytest.mark.parametrize("glob", BAD)
def test_what_rclone_refuses_is_refused_by_name(glob: str, ask_rclone: Ask, tmp_path: Path) -> None:
    filters = {"IncludeRule": [glob], "ExcludeRule": [], "FilterRule": []}
    assert theirs(tmp_path, filters, ask_rclone) is None
    with pytest.raises(ConfigurationError) as refused:
        glob_regex(glob)
    assert repr(glob) in refused.value.message
    assert "\n" not in refused.value.message


def test_a_name_with_a_line_feed_does_not_slip_through() -> None:
    names = ["a\nb", "a\nb.jpg", "a\n/b.txt"]
    assert (
        ours(names, {"IncludeRule": ["*.jpg"], "ExcludeRule": [], "FilterRule": []}) == names[1:2]
    )


def test_a_name_of_slashes_alone() -> None:
    """A store may hold one, and each of its folders is looked at."""
    names = ["/" * 1024, "a/" * 512, "b"]
    filters = {"IncludeRule": [], "ExcludeRule": ["a/"], "FilterRule": []}
    assert ours(names, filters) == [names[0], "b"]
    assert ours([], filters) == []


def test_a_rule_says_what_it_does() -> None:
    with pytest.raises(ConfigurationError, match=r"'\*\.jpg' is not a rule; write \+ PATTERN"):
        path_rules([], [], ["*.jpg"])
