"""Bodies that come in pieces, as a store's put_part takes them."""

from __future__ import annotations

from collections.abc import Iterable

from noria.workers.http.client import Pour, Send


def poured(pieces: Iterable[memoryview | bytes]) -> Pour:
    """A body in these pieces."""

    def pour(send: Send) -> None:
        for piece in pieces:
            send(piece)

    return pour
