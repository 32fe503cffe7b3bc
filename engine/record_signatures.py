"""Records of a history that are signed, each by the key of whoever ran the command.

A signature says that the holder of that key wrote the record, in this migration and at this place
of its history. Whose key it is, no history can say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from noria.engine.signing import is_signed, open_key
from noria.manifests.errors import JobDirectoryError
from noria.manifests.job.history import Record, RecordSignature, Sign, signed_text


def signer(key_file: Path | None) -> Sign | None:
    """What signs with the private key in this file; None: records are not signed.

    Raises ConfigurationError if the key cannot be used.
    """
    if key_file is None:
        return None
    key = open_key(key_file)

    def sign(text: bytes) -> RecordSignature:
        return RecordSignature(key=key.public, signature=key.sign(text))

    return sign


def check_signatures(job_id: str, records: Sequence[Record]) -> Counter[str | None]:
    """How many records each key has signed; None: how many are not signed.

    Raises JobDirectoryError for a signature that is not right.
    """
    for record in records:
        if record.key is None and record.signature is None:
            continue
        text = signed_text(job_id, record)
        if not is_signed(text, key=record.key, signature=record.signature):
            raise JobDirectoryError(
                f"the signature of record {record.number} of the history is not right: somebody "
                "changed it; nothing goes on with it"
            )
    return Counter(record.key for record in records)
