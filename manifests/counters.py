"""What a worker counts, named once: the keys of a MetricsSnapshot, for all who add or read."""

from __future__ import annotations

from enum import StrEnum


class StoreRole(StrEnum):
    """Label `store`: which end of a job a request went to."""

    SOURCE = "source"
    TARGET = "target"


class StoreOperation(StrEnum):
    """Label `operation`: what a request did."""

    ABORT = "abort"
    COMPLETE = "complete"
    CREATE_UPLOAD = "create_upload"
    DELETE = "delete"
    GET = "get"
    HEAD = "head"
    LIST = "list"
    LIST_PARTS = "list_parts"
    PUT = "put"
    PUT_PART = "put_part"
    TAGS = "tags"


class BodySize(StrEnum):
    """Label `size`: how many bytes one request carried, at most."""

    TINY = "64KiB"
    SMALL = "1MiB"
    MEDIUM = "16MiB"
    LARGE = "larger"

    @classmethod
    def of(cls, size: int) -> BodySize:
        if size <= 64 * 1024:
            return cls.TINY
        if size <= 1024 * 1024:
            return cls.SMALL
        return cls.MEDIUM if size <= 16 * 1024 * 1024 else cls.LARGE


class Counter(StrEnum):
    """Grows only. In brackets the labels."""

    BYTES_READ = "bytes_read"
    BYTES_WRITTEN = "bytes_written"
    """Sent to the target, repeated requests included."""
    BYTES_REREAD = "bytes_reread"
    """Read back from the target."""
    OBJECTS = "objects"
    """(outcome)"""
    PARTS = "parts"
    RETRIES = "retries"
    """(cause)"""
    THROTTLES = "throttles"
    """(store)"""
    ERRORS = "errors"
    """(cause)"""
    REQUEST_ERRORS = "request_errors"
    """(store, operation, cause) Those of ERRORS that a request ended with."""
    REQUEST_RETRIES = "request_retries"
    """(store, operation) Those of RETRIES that were the same request once more."""
    CONNECTIONS = "connections"
    """(store, encryption) Opened; see SourceStore.connections."""


class Gauge(StrEnum):
    """As it is at the moment of a report."""

    BYTES_IN_FLIGHT = "bytes_in_flight"
    TRANSFERS = "transfers"
    """Most transfers that may be in flight."""
    TRANSFER_SECONDS = "transfer_seconds"
    """Time that transfers have been in flight, summed. Grows only."""
    TRANSFERS_ENDED = "transfers_ended"
    """Grows only."""
    WORKER_SECONDS = "worker_seconds"
    """Since the worker began, by its own clock: rates are right however late a report arrives."""
    CPU_SECONDS = "cpu_seconds"
    """Of the process. Grows only."""
    MEMORY_BYTES = "memory_bytes"
    """Resident memory of the process."""
    HELD_SECONDS = "held_seconds"
    """Time that transfers have waited for their share of the bandwidth, summed. Grows only."""
    CONCURRENCY = "concurrency"
    """(store) Requests that the pacer lets run at a time."""
    IN_FLIGHT_SECONDS = "in_flight_seconds"
    """(store) Grows only, too."""
    SILENT_SECONDS = "silent_seconds"
    """(store) How long a worker has been waiting for a store that answers nobody."""


class Histogram(StrEnum):
    """Latencies, in LATENCY_BUCKETS."""

    REQUEST_SECONDS = "request_seconds"
    """(store, operation) Of requests that succeeded."""
    FAILED_SECONDS = "failed_seconds"
    """(store, operation) Of those that REQUEST_ERRORS counts."""
    JOURNAL_SECONDS = "journal_seconds"
    """Of writes of a worker's journal, until what was written is on disk."""
    BODY_SECONDS = "body_seconds"
    """(store, size) Of those of REQUEST_SECONDS that carried an object's bytes; see BodySize."""
