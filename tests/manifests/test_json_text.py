"""The files of a job directory: a line for each member, and the same values as ever."""

from __future__ import annotations

import json

import pytest

from noria.manifests.json_text import json_text


def test_a_line_for_each_member_by_name() -> None:
    values = {"b": {"y": 1, "x": [1, 2]}, "a\n": "é", "c": None}
    text = json_text(values)
    assert text.splitlines() == [
        "{",
        ' "a\\n": "\\u00e9",',
        ' "b": {"x": [1, 2], "y": 1},',
        ' "c": null',
        "}",
    ]
    assert json.loads(text) == values
    assert json.loads(json_text({})) == {}


def test_what_json_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError):
        json_text({"a": object()})
