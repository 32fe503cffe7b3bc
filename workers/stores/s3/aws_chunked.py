"""A body that is followed by its checksum: aws-chunked coding with an unsigned trailer.

The CRC64NVME of a streamed part is known only after its last byte. See "Signature calculations for
the authorization header: transferring a payload in multiple chunks", with trailing headers, in the
Amazon S3 API Reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from noria.workers.http.client import BodyWriter, Send
from noria.workers.http.connection import OnSent
from noria.workers.stores.s3.headers import encode_crc

FRAME_BYTES: Final = 1024 * 1024
"""The bytes of one chunk of the coding. AWS requires at least 8 KiB; larger chunks cost less."""


class PayloadCount:
    """Tells how many bytes of a body were sent, without those of the coding round it."""

    def __init__(self, on_sent: OnSent | None) -> None:
        self._on_sent = on_sent
        self.is_payload = False
        """What is being sent just now is payload."""

    def note_sent(self, count: int) -> None:
        """So many more coded bytes were sent."""
        if self.is_payload and self._on_sent is not None:
            self._on_sent(count)


def with_trailer(
    body: BodyWriter,
    size: int,
    header: str,
    crc64nvme: Callable[[], int],
    payload: PayloadCount,
) -> BodyWriter:
    """Return a writer of the coded body: frames of FRAME_BYTES, uncopied, then the trailer.

    The trailer `header` has the CRC64NVME; `crc64nvme` is called when the whole body was sent.
    """

    def write_body(send: Send) -> None:
        left, room = size, 0
        payload.is_payload = False

        def frame(piece: memoryview | bytes) -> None:
            nonlocal left, room
            view = memoryview(piece)
            while view:
                if room == 0:
                    room = min(FRAME_BYTES, left)
                    if room == 0:
                        raise ValueError(f"the body is longer than its announced {size} bytes")
                    send(b"%x\r\n" % room)
                taken = view[:room]
                payload.is_payload = True
                send(taken)
                payload.is_payload = False
                view = view[len(taken) :]
                left -= len(taken)
                room -= len(taken)
                if room == 0:
                    send(b"\r\n")

        body(frame)
        send(f"0\r\n{header}:{encode_crc(crc64nvme())}\r\n\r\n".encode())

    return write_body


def encoded_bytes(size: int, header: str) -> int:
    """Return the size in bytes of the coded body."""
    frames, rest = divmod(size, FRAME_BYTES)
    coded = size + frames * len(b"%x\r\n\r\n" % FRAME_BYTES)
    if rest:
        coded += len(b"%x\r\n\r\n" % rest)
    return coded + len(f"0\r\n{header}:{encode_crc(0)}\r\n\r\n")
