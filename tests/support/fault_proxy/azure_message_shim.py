"""What Azurite leaves out: the CRC64s that Azure states of what it serves.

    proxy.add(Fault(match=asking(), action=as_message(), times=None))

makes structured messages (XSM/1.0) of the answers to all reads that ask for one, with segments of
4 MiB, as Azure does. An action of faults.py that damages the answer's body damages the message:
`damaged(as_message(), flip_answer(30))`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from noria.workers.digest import crc64nvme
from noria.workers.stores.azure.headers import encode_crc
from tests.support.fault_proxy.rules import Action, Operation, ProxiedRequest, replace_answer

FORM = "XSM/1.0; properties=crc64"
FIRST_VERSION = "2025-01-05"
SEGMENT_BYTES = 4 * 1024 * 1024


def asking(name: str = "") -> Callable[[ProxiedRequest], bool]:
    """Matches reads of objects whose path ends in `name` that ask for a structured message."""

    def match(request: ProxiedRequest) -> bool:
        return (
            request.operation is Operation.READ
            and request.path.endswith(name)
            and request.headers.get("x-ms-structured-body") == FORM
            and request.headers.get("x-ms-version", "") >= FIRST_VERSION
        )

    return match


def message_of(
    body: bytes, segment_bytes: int = SEGMENT_BYTES, *, lies: int = 0, trailer_lies: int = 0
) -> bytes:
    """Wrap the answer in a structured message.

    `lies` are the bits in which each segment's CRC64 is not that of its bytes, `trailer_lies` those
    of the whole.
    """
    starts = range(0, max(1, len(body)), segment_bytes)
    size = 13 + 18 * len(starts) + len(body) + 8
    message = [struct.pack("<BQHH", 1, size, 1, len(starts))]
    for number, start in enumerate(starts, 1):
        piece = body[start : start + segment_bytes]
        message += [
            struct.pack("<HQ", number, len(piece)),
            piece,
            struct.pack("<Q", crc64nvme(piece) ^ lies),
        ]
    message.append(struct.pack("<Q", crc64nvme(body) ^ trailer_lies))
    return b"".join(message)


def as_message(
    *,
    segment_bytes: int = SEGMENT_BYTES,
    form: str = FORM,
    lies: int = 0,
    trailer_lies: int = 0,
) -> Action:
    """The answer's body comes as a structured message, if it is a success."""

    def edit(
        status: int, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        if status not in (200, 206):
            return status, headers, body
        changed = {
            **headers,
            "x-ms-structured-body": form,
            "x-ms-structured-content-length": str(len(body)),
        }
        message = message_of(body, segment_bytes, lies=lies, trailer_lies=trailer_lies)
        return status, changed, message

    return Action(name="as message", edit=edit)


def damaged(action: Action, damage: Action) -> Action:
    """The one, and then something happens to its answer's body."""
    return replace(damage, name=f"{action.name}, {damage.name}", edit=action.edit)


def stating_crc64(crc64nvme: int) -> Action:
    """The answer states this CRC64 of the whole object, as Azure does of some."""
    return replace_answer(headers={"x-ms-content-crc64": encode_crc(crc64nvme)})
