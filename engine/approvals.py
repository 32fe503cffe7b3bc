"""Approvals of a proof by people, signed if they have a key; the switch of a cutover asks for them.

What is signed names the migration and the digest of the record of its proof: an approval is of that
one proof, and of no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.engine.signing import is_signed, open_key
from noria.manifests.errors import ConfigurationError, JobDirectoryError
from noria.manifests.job.history import Facts, Record, RecordKind

NAME_LETTERS: Final = 100
"""Most of a person's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Somebody's approval of a proof."""

    name: str
    key: str | None
    """Their public key, 32 bytes in hex. None: it is not signed."""


def approval_facts(job_id: str, proof: Record, name: str, key_file: Path | None) -> Facts:
    """What the record of an approval says.

    Raises ConfigurationError if the key cannot be used, or the name is not a short line.
    """
    check_name(name, "--approve-as")
    if key_file is None:
        return {"name": name}
    key = open_key(key_file)
    signature = key.sign(_signed_text(job_id, proof, name))
    return {"name": name, "key": key.public, "signature": signature}


def check_name(name: str, option: str) -> None:
    """Raise ConfigurationError unless a history can show this name of a person."""
    if not name.strip() or not name.isprintable() or len(name) > NAME_LETTERS:
        raise ConfigurationError(f"{option} takes a name of 1 to {NAME_LETTERS} printable letters")


def approvals_of(job_id: str, records: Sequence[Record]) -> list[Approval]:
    """All approvals of the last proof. Raises JobDirectoryError if a signature is not right."""
    proof, found = None, list[Approval]()
    for record in records:
        if record.kind is RecordKind.PROVED:
            proof, found = record, []
        elif record.kind is RecordKind.APPROVED and proof is not None:
            found.append(_checked(job_id, proof, record))
    return found


def lacking(approvals: Sequence[Approval], *, two_people: bool) -> str | None:
    """What is missing before a switch, for "the switch needs ..."; None: nothing."""
    if not approvals:
        return "an approval: --approve-as NAME"
    if not two_people:
        return None
    keys = {each.key for each in approvals if each.key is not None}
    names = {each.name for each in approvals if each.key is not None}
    if len(keys) < 2 or len(names) < 2:
        return (
            "signed approvals of two people, with a key each: --approve-as NAME --signing-key FILE"
        )
    return None


def _checked(job_id: str, proof: Record, record: Record) -> Approval:
    name, key, signature = (record.facts.get(each) for each in ("name", "key", "signature"))
    if key is None and isinstance(name, str):
        return Approval(name=name, key=None)
    if not is_signed(_signed_text(job_id, proof, str(name)), key=key, signature=signature):
        raise JobDirectoryError(
            f"the signature of record {record.number} of the history is not right: somebody "
            "changed it; nothing goes on with it"
        )
    return Approval(name=str(name), key=str(key))


def _signed_text(job_id: str, proof: Record, name: str) -> bytes:
    return f"noria-approval-1\n{job_id}\n{proof.number}\n{proof.digest}\n{name}\n".encode()
