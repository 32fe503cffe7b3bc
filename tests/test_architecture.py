"""The shape of the tree: what style asks for and a machine can see.

Who may import whom is held by import-linter, columns and types by ruff and mypy (pyproject.toml).
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from noria.benchmarks.servers import ROOT

FUNCTION_LINES_MAX = 70
ROOMS = ("engine", "workers", "manifests", "benchmarks")
"""Folders of the product; `src/noria` holds the API and links to these."""
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
ENTRY_MODULES = {"noria", "noria.__main__"}
"""The Python API and the command. A module that Python can run as a script is one too."""

PRODUCT = sorted(
    [*(ROOT / "src" / "noria").glob("*.py")]
    + [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCS = sorted((ROOT / "docs").rglob("*.py"))
TREE = [path for path in PRODUCT + TESTS + DOCS if "node_modules" not in path.parts]

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """The first line of each docstring, and its text without the indentation of the code.

    Also a string below an assignment: the documentation of a constant or a field.
    """
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                lines = text.splitlines()
                indent = " " * node.col_offset
                yield node.lineno, "\n".join(line.removeprefix(indent) for line in lines)


def module_name(path: Path) -> str:
    """The name under which a file of the product is imported."""
    inside = path.relative_to(ROOT / "src" if path.is_relative_to(ROOT / "src") else ROOT)
    parts = list(inside.with_suffix("").parts)
    if parts[0] != "noria":
        parts.insert(0, "noria")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# -- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [PRODUCT, TESTS, DOCS], ids=["product", "tests", "docs"])
def test_a_function_fits_a_screen(files: list[Path]) -> None:
    long = [
        f"{place(path, node.lineno)} {node.name}: {length} lines"
        for path in files
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long


# -- names -----------------------------------------------------------------------------------------


def test_no_class_name_stands_twice_in_the_tree() -> None:
    places = defaultdict(list)
    for path in TREE:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(place(path, node.lineno))
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_a_file_is_named_for_its_noun() -> None:
    assert not [path for path in TREE if {path.stem, path.parent.name} & BANNED_NAMES]


def test_ends_are_called_source_and_target() -> None:
    short = {"src", "dst", "dest"}
    assert not [
        place(path, node.lineno)
        for path in TREE
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.arg) and node.arg in short)
        or (isinstance(node, ast.Name) and node.id in short)
        or (isinstance(node, ast.Attribute) and node.attr in short)
    ]


# -- words -----------------------------------------------------------------------------------------


def test_tables_in_docstrings_keep_their_columns() -> None:
    assert not [
        f"{place(path, line)}: {fragment}"
        for path in TREE
        for line, text in docstrings(path)
        for fragment in misplaced(text)
    ]


def misplaced(text: str) -> Iterator[str]:
    """Lines that go on with a row of columns, or with an item of a list, but not below it.

    The columns of a row lie two spaces or more apart; what goes on with it stands below the last.
    """
    least = 0
    for line in text.splitlines():
        inside = len(line) - len(line.lstrip())
        columns = [found.end() for found in re.finditer(r"[^\s|] {2,}(?=\w)", line)]
        if not line.strip():
            least = 0
        elif columns:
            least = columns[-1]
        elif re.match(r" *([-*]|\d+\.) ", line):
            least = inside + 2
        elif inside < least and line[inside].isalnum():
            yield line.strip()


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("Files:\n\n    a.json   what a says\n    b.json   what b says\n\nThat is all.", []),
        ("Files:\n\n    a.json   what a says and\n             means\n    b.json   b", []),
        ("    a.json   what a says and\n    what it means\n    b.json   b", ["what it means"]),
        ("    ├── Lost   a long way\nhome\n    └── Found   again", ["home"]),
        ("- one that goes\n  on\n- two", []),
        ("- one that goes\non\n- two", ["on"]),
    ],
)
def test_the_check_of_tables_sees_a_fragment(text: str, fragments: list[str]) -> None:
    assert list(misplaced(text)) == fragments


@pytest.mark.parametrize(
    ("pattern", "write"),
    [
        (r"\banew\b", "again"),
        (r"(?<!there )\bis no (?!longer|more|less|such|one\b|\w+er than)[a-z]", "is not a"),
        (r"\bof no more use\b", "no longer needed"),
        (r"\b(wherein|thereof|thereby|whilst|amongst|hereby)\b", "a plain word"),
    ],
)
def test_plain_words_are_used(pattern: str, write: str) -> None:
    """In docstrings, comments and what users read. `write` is the better word."""
    odd = re.compile(pattern, re.IGNORECASE)
    assert not [
        f"{place(path, number)} {line.strip()}"
        for path in PRODUCT
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if odd.search(line)
    ]


def test_a_package_says_in_one_line_what_it_is() -> None:
    silent = [
        place(path, 1)
        for path in PRODUCT
        if path.name == "__init__.py"
        and path != ROOT / "src/noria/__init__.py"
        and not one_line(ast.get_docstring(parsed(path)))
    ]
    assert not silent
    folders = {path.parent for path in PRODUCT}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def one_line(text: str | None) -> bool:
    """Or one line and, below an empty one, more."""
    return [bool(line) for line in str(text or "").splitlines()[:2]] in ([True], [True, False])


def test_an_ignored_type_says_why() -> None:
    """`type: ignore` carries its code and the reason, behind it or on the line above."""
    bad = []
    for path in TREE:
        lines = ["", *path.read_text().splitlines()]
        for number, comment in comments(path):
            found = re.search(r"type: ignore(\[[a-z, -]+\])?(  # \w)?", comment)
            above = lines[number - 1].strip().startswith("# ")
            if found and not (found[1] and (found[2] or above)):
                bad.append(f"{place(path, number)} {comment}")
    assert not bad


def test_nothing_is_marked_as_left_to_do() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b")
    assert not [
        place(path, number)
        for path in TREE
        for number, comment in comments(path)
        if marks.search(comment)
    ]


def comments(path: Path) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


# -- reach -----------------------------------------------------------------------------------------


def test_every_module_is_reached() -> None:
    """By imports from the API, the command, or a module that Python can run as a script."""
    modules = {module_name(path): path for path in PRODUCT}
    waiting = [name for name, path in modules.items() if is_entry(name, path)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in modules and name not in reached:
            reached.add(name)
            waiting += [name.rpartition(".")[0], *named_in(modules[name])]
    assert not sorted(set(modules) - reached)


def is_entry(name: str, path: Path) -> bool:
    return name in ENTRY_MODULES or any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in parsed(path).body
    )


def named_in(path: Path) -> Iterator[str]:
    """Modules that a file imports, or names in a string (`python -m`, a lazy import)."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path.parent)
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, [package if node.level else "", node.module]))
            yield origin
            yield from (f"{origin}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
