"""What the driver says, kept in the job directory: rotated, as text or as JSON, without names."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, Literal

from noria.manifests.access import open_new

FILE_BYTES, FILES = 10_000_000, 5
"""noria.log is put aside at this size; so many of those before it are kept."""
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

DATASET_THREAD: Final = "dataset "
"""Begins the name of a thread that works on one of many datasets; its name follows."""

LogFormat = Literal["text", "json"]


@contextmanager
def log_file(path: Path, form: LogFormat, *, thread: int | None = None) -> Iterator[None]:
    """What the `noria` loggers say while the block runs is kept there too, with its time (UTC).

    `thread`: only what is said on the thread of that number, if several jobs run side by side.
    """
    handler = _OwnersLog(path, maxBytes=FILE_BYTES, backupCount=FILES, delay=True)
    formatter = _JsonLines(datefmt=_TIME) if form == "json" else _TextLines(_TEXT, _TIME)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    if thread is not None:
        handler.addFilter(lambda record: record.thread == thread)
    logger = logging.getLogger("noria")
    level = logger.level
    logger.addHandler(handler)
    # Which worker came up where is for the file alone: a terminal shows warnings.
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


class _OwnersLog(RotatingFileHandler):
    """A log that has the modes of the job directory, also after it was rotated."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=open_new)


def said_of(record: logging.LogRecord) -> str:
    """The message, behind the name of the dataset that it is about, of many."""
    thread = record.threadName or ""
    if not thread.startswith(DATASET_THREAD):
        return record.getMessage()
    return f"{thread.removeprefix(DATASET_THREAD)}: {record.getMessage()}"


class _TextLines(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = said_of(record)
        return super().formatMessage(record)


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": self.formatTime(record, self.datefmt),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": said_of(record),
            }
        )
