"""Proofs and checkpoints, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from noria.engine.terminal.figures import time_text
from noria.manifests.count_text import count_text


def print_checkpoint(summary: Mapping[str, Any]) -> None:
    """What was signed, and the text of it: to be kept elsewhere."""
    what = count_text(summary["size"], "receipt")
    number, of_pass = summary["checkpoint"], summary["pass"]
    print(f"checkpoint {number}: {what} of pass {of_pass}, {summary['sealed']:,} sealed")
    print(f"it is in {summary['file']}; keep a copy elsewhere, with the key:")
    print(summary["key"])
    print()
    print(summary["note"], end="")
    if "timestamp" in summary:
        print()
        print_time_stamp(summary)


def print_time_stamp(summary: Mapping[str, Any]) -> None:
    """What an authority has stamped, or why it has not."""
    stamp = summary["timestamp"]
    if "error" in stamp:
        print(f"NOT time-stamped: {stamp['error']}")
        print(
            f"the signature stands; ask again: noria sign {summary['directory']} "
            "--timestamp-url URL"
        )
        return
    found = "time stamp" if stamp["asked"] else "it had a time stamp already"
    when = time_text(stamp["seconds"])
    print(f"{found}: checkpoint {stamp['checkpoint']} was there by {when} UTC: {stamp['file']}")
    print("whether the authority has signed it, openssl tells, with its roots:")
    print(f"  openssl ts -verify -digest {stamp['sha256']} -in {stamp['file']} -CAfile roots.pem")


def print_proofs(summary: Mapping[str, Any]) -> None:
    for each in summary["proofs"]:
        found = "no receipt" if each["outcome"] is None else str(each["outcome"])
        level = "" if each["level"] is None else f", {each['level']}"
        signed = ", ".join(each["signatures"]) or "nobody yet"
        print(f"pass {each['pass']}: {found}{level}; signed by {signed}: {each['file']}")


def print_leaves(summary: Mapping[str, Any]) -> None:
    for folder in summary["leaves"]:
        print(f"all leaves are in {folder}")


def print_check(summary: Mapping[str, Any]) -> None:
    for each in summary["passes"]:
        signed = ", ".join(_signed_text(one) for one in each["signed"]) or "nobody who is trusted"
        what = count_text(each["size"], "receipt")
        print(f"pass {each['number']}: {what}, as checkpoint {each['checkpoint']} says")
        print(f"  root {each['root']}")
        print(f"  signed by {signed}")
        if each["stamped_seconds"] is not None:
            when = time_text(each["stamped_seconds"])
            print(f"  time stamp of {when} UTC; `openssl ts -verify` tells who signed that")


def print_published(summary: Mapping[str, Any]) -> None:
    written, same = summary["written"], summary["same"]
    print(
        f"the proof is at {summary['url']}: {count_text(written, 'file')} written, {same:,} there"
    )


def _signed_text(signed: Mapping[str, Any]) -> str:
    if signed["seconds"] is None:
        return str(signed["name"])
    return f"{signed['name']} at {time_text(signed['seconds'])} UTC"
