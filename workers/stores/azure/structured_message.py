"""Azure's structured message: the bytes of a read in segments, each with the CRC64 of the source.

    message    version u8 (1), length of the message u64, properties u16 (1: CRC64), segments u16
    segment    number u16 (from 1), bytes u64; those bytes; their CRC64 u64
    trailer    CRC64 of the bytes of all segments u64

All numbers are little endian. A read requests this format by a header. If the response uses it, the
response has the same header; Content-Range and ETag are those of the bytes inside. The format is
that of StructuredMessageEncodeStream in the SDK (azure-storage-blob 12.31), called XSM/1.0 there.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Final

from noria.manifests.errors import DigestRefused, ShortBody
from noria.workers.digest import combine, crc64nvme
from noria.workers.http.connection import OnBytes
from noria.workers.http.response import Fill, fill_room
from noria.workers.runtime.buffers import BodyBuffer

MESSAGE_HEADER: Final = "x-ms-structured-body"
MESSAGE_FORM: Final = "XSM/1.0; properties=crc64"
LENGTH_HEADER: Final = "x-ms-structured-content-length"
"""In a response: the number of bytes in all segments."""

_MESSAGE: Final = Struct("<BQHH")
_SEGMENT: Final = Struct("<HQ")
_CRC64: Final = Struct("<Q")
_AROUND_BYTES: Final = _MESSAGE.size + _CRC64.size
_SEGMENT_BYTES: Final = _SEGMENT.size + _CRC64.size
"""The bytes around those of one segment."""
_VERSION: Final = 1
_WITH_CRC64: Final = 1


class StructuredBody:
    """The BodyFormat of one response (http/response.py), for one read.

    The bytes inside go straight into the caller's buffer. They count only once every number in the
    message was found to be right.
    """

    def __init__(self, key: str) -> None:
        self.crc64nvme: int | None = None
        """Of the bytes read, as the source states it; None if it states none, or before the end."""
        self._key = key
        self._segment_crc = 0
        self._on_bytes: OnBytes | None = None

    def wraps(self, headers: Mapping[str, str]) -> bool:
        """Return True if the body is a structured message.

        Raises ShortBody if it is one of another form than was requested.
        """
        form = headers.get(MESSAGE_HEADER)
        if form is None or headers.get("content-length") == "0":
            return False
        if form.replace(" ", "").lower() != MESSAGE_FORM.replace(" ", "").lower():
            raise self._malformed("it has another form than was requested")
        return True

    def unwrap(
        self,
        headers: Mapping[str, str],
        body_bytes: int,
        fill: Fill,
        into: BodyBuffer,
        on_bytes: OnBytes | None,
    ) -> bool:
        """Fill `into` from a message of `body_bytes` bytes.

        Returns False, and reads nothing, if the message contains another number of bytes. Raises
        DigestRefused if a checksum is not that of the bytes, and ShortBody if the message
        contradicts itself.
        """
        if headers.get(LENGTH_HEADER, str(len(into))) != str(len(into)):
            return False
        room = body_bytes - len(into) - _AROUND_BYTES
        segments = room // _SEGMENT_BYTES
        if segments < 1 or room % _SEGMENT_BYTES:
            return False
        self._on_bytes = on_bytes
        # The CRC64 of a segment and the header of the next one are read together, so a segment
        # costs only one more system call.
        frame = memoryview(bytearray(_MESSAGE.size + _SEGMENT.size))
        left = body_bytes - len(frame)
        fill(frame, more_bytes=left)
        self._check_message(frame, body_bytes, segments)
        place, whole = 0, 0
        announced = frame[_MESSAGE.size :]
        for number in range(1, segments + 1):
            end = place + self._segment_size(announced, number, len(into) - place)
            left -= end - place
            self._segment_crc = 0
            fill_room(fill, into, place, end, self._on_piece, more_bytes=left)
            between = frame[: _CRC64.size + (_SEGMENT.size if number < segments else _CRC64.size)]
            left -= len(between)
            fill(between, more_bytes=left)
            self._check_crc(between, self._segment_crc)
            whole = combine(whole, self._segment_crc, end - place)
            place, announced = end, between[_CRC64.size :]
        if place < len(into):
            raise self._malformed("its segments end early")
        self._check_crc(announced, whole)
        self.crc64nvme = whole
        return True

    def _on_piece(self, piece: memoryview, _: int | None = None) -> None:
        if self._on_bytes is None:
            self._segment_crc = crc64nvme(piece, self._segment_crc)
            return
        # The listener gets the checksum too: a second pass would double the cost of this method.
        crc = crc64nvme(piece)
        self._segment_crc = combine(self._segment_crc, crc, len(piece))
        self._on_bytes(piece, crc)

    def _check_message(self, frame: memoryview, body_bytes: int, segments: int) -> None:
        stated = _MESSAGE.unpack_from(frame)
        if stated != (_VERSION, body_bytes, _WITH_CRC64, segments):
            raise self._malformed(
                f"it states version, length, properties, segments {stated}, but has {body_bytes} "
                f"bytes and {segments} segments"
            )

    def _segment_size(self, frame: memoryview, number: int, room_bytes: int) -> int:
        stated, size = _SEGMENT.unpack_from(frame)
        if stated != number:
            raise self._malformed(f"segment {stated} came in place of {number}")
        if size > room_bytes:
            raise self._malformed(f"segment {number} is longer than what is left")
        return int(size)

    def _check_crc(self, frame: memoryview, came: int) -> None:
        (stated,) = _CRC64.unpack_from(frame)
        if stated != came:
            raise DigestRefused(
                "the bytes read do not have the CRC64 that the source states: read them again",
                key=self._key,
            )

    def _malformed(self, what: str) -> ShortBody:
        return ShortBody(f"a structured message is damaged ({what}): try again", key=self._key)
