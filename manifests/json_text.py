"""JSON as the files of a job directory have it: a line for each member of the outermost object.

What lies deeper stays on its line. The standard library indents in Python, a value at a time, which
for thousands of small jobs takes longer than everything else that is done with these files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def json_text(values: Mapping[str, Any]) -> str:
    """By name, and with a line break at the end. Raises TypeError for what JSON does not know."""
    members = [f" {json.dumps(each)}: {_line(values[each])}" for each in sorted(values)]
    return "{\n" + ",\n".join(members) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
