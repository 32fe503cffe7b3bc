"""The commands of `noria` in its help: by what they are for, each with its whole first sentence."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperGroup

SECTIONS: Final = {
    "Move": "copy doctor plan run retry failures verify reconcile clean",
    "Watch and steer": "status set pause resume drain report",
    "Follow a source that people still write to, and switch over": (
        "sync cutover rollback retire history"
    ),
    "Prove": "sign cosign prove publish-proof",
    "Look, prepare and measure": "ls check estimate init config completion bench simulate",
}
"""Title -> names, in the order in which they are shown."""
_ALL: Final = 1000
"""Characters of a summary: more than any has."""


class CommandList(TyperGroup):
    """`noria` itself: click's group, whose help lists the commands in SECTIONS."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (name, self.commands[name].get_short_help_str(_ALL).rstrip("."))
                        for name in names.split()
                    ]
                )
