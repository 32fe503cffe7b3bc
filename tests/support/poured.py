"""Bodies that come in pieces, as a store's put_part takes them."""

from __future__ import annotations

from collections.abc import Iterable

from noria.workers.http.client import BodyWriter, Send


def poured(pieces: Iterable[memoryview | bytes]) -> BodyWriter:
    """A body in these pieces."""

    def write_body(send: Send) -> None:
        for piece in pieces:
            send(piece)

    return write_body
