"""Runs that nobody ran, for what computes with runs."""

from __future__ import annotations

from noria.benchmarks.measure.accounting import Usage
from noria.benchmarks.suite.rounds import Contest, ToolRun
from noria.benchmarks.suite.tools import Invocation, Tool
from noria.benchmarks.suite.workloads import Workload


def usage(*, cpu_seconds: float = 1.0, wall_seconds: float = 1.0, rss_bytes: int = 0) -> Usage:
    return Usage(
        exit_code=0,
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        peak_rss_bytes=rss_bytes,
        peak_pss_bytes=rss_bytes,
        cpu_by_role={"tool": cpu_seconds, "unseen": 0.0},
        rss_by_role={"tool": rss_bytes},
        left_behind=(),
        method="invented",
    )


def contest(workload: Workload, **used: list[Usage]) -> Contest:
    """`used`: each tool's usage, by round, the first being the warm-up."""
    return Contest(
        workload=workload,
        tools=tuple(tool(name) for name in used),
        runs=tuple(
            ToolRun(
                workload=workload.name,
                tool=name,
                round=number,
                objects=len(workload.objects),
                bytes=workload.bytes,
                usage=one,
            )
            for name, usages in used.items()
            for number, one in enumerate(usages)
        ),
    )


def tool(name: str) -> Tool:
    tool = name.split()[0].strip(",").lower()
    return Tool(
        name=name,
        tool="loop" if tool == "c" else tool,
        invoke=lambda ends, folder: Invocation(command=["false"], environment={}),
        flags=f"{tool} --fast",
    )
