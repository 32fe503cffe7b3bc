"""The list of long tests names tests that there are: one that is renamed would come back unseen."""

from __future__ import annotations

import ast

from tests.support.long_tests import LONG_TESTS, long_tests


def test_each_names_a_test_that_there_is() -> None:
    folder, names = LONG_TESTS.parent, {}
    assert long_tests()
    for test in long_tests():
        file, name = test.split("[")[0].split("::")
        if file not in names:
            tree = ast.parse((folder / file).read_text())
            names[file] = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
        assert name in names[file], test


def test_each_stands_there_once_and_in_order() -> None:
    lines = [line for line in LONG_TESTS.read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(set(lines))
