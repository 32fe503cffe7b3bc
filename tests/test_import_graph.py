"""The import graph between rooms has no circle.

A room is what a package directly holds: a folder with all that is in it, or a file. So `engine` has
the rooms `scheduler`, `config`, `driver` ..., and `engine.config` has three of its own. Figures for
people: `python -m tests.test_import_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import cache

import grimp
import pytest

Rooms = Mapping[str, Set[str]]
"""Room -> the rooms of the same package that it imports."""

SHOWN = ("noria", "noria.manifests", "noria.workers", "noria.engine", "noria.benchmarks")


@cache
def import_graph() -> grimp.ImportGraph:
    return grimp.build_graph("noria")


def packages() -> list[str]:
    graph = import_graph()
    return sorted(module for module in graph.modules if graph.find_children(module))


def rooms_of(package: str) -> Rooms:
    """Who imports whom directly. What a package's own `__init__` imports is no arrow inside it."""
    graph = import_graph()
    inside = f"{package}."
    rooms = {child.removeprefix(inside): set[str]() for child in graph.find_children(package)}
    for module in graph.find_descendants(package):
        room = module.removeprefix(inside).partition(".")[0]
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith(inside):
                rooms[room].add(imported.removeprefix(inside).partition(".")[0])
        rooms[room].discard(room)
    return rooms


def floors_of(rooms: Rooms) -> list[list[str]]:
    """The rooms from the ground up: each stands one above the highest that it imports.

    Raises ValueError if there is a circle, and names the rooms that are in one or above one.
    """
    floors: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(rooms):
        floor = sorted(room for room in rooms.keys() - placed if rooms[room] <= placed)
        if not floor:
            raise ValueError(f"a circle among {', '.join(sorted(rooms.keys() - placed))}")
        floors.append(floor)
        placed.update(floor)
    return floors


@pytest.mark.parametrize("package", packages())
def test_no_circle_between_rooms(package: str) -> None:
    floors_of(rooms_of(package))


def test_a_circle_is_seen() -> None:
    assert floors_of({"c": {"a", "b"}, "b": {"a"}, "a": set()}) == [["a"], ["b"], ["c"]]
    with pytest.raises(ValueError, match="a circle among b, c, d"):
        floors_of({"a": set(), "b": {"a", "c"}, "c": {"b"}, "d": {"c"}})


def figures() -> Iterator[str]:
    """Rooms, arrows and floors of the packages, one line each."""
    for package in SHOWN:
        rooms = rooms_of(package)
        floors = floors_of(rooms)
        arrows = sum(map(len, rooms.values()))
        yield f"{package}: {len(rooms)} rooms, {arrows} arrows, {len(floors)} floors"
        for number, floor in reversed(list(enumerate(floors))):
            yield f"  {number}  {' '.join(floor)}"


if __name__ == "__main__":
    print("\n".join(figures()))
