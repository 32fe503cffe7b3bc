"""What a user asks for: the job file and the options of a command, validated once.

A job file may name endpoints and regions, never a secret. Endpoints that only the environment names
are written down when a job is planned; credentials are read by each worker process from its own
environment (stores.py), so that none travels between nodes or is in the job directory.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from noria.engine.config.addresses import file_url, is_bare, read_address
from noria.engine.config.filters import FilterConfig, read_rules
from noria.engine.config.locations import (
    METRICS_ADDRESS,
    Location,
    Scheme,
    check_endpoint,
    parse_location,
    s3_endpoint,
)
from noria.engine.config.refused_settings import (
    ERRORS_MAX,
    SettingPath,
    WrongSettings,
    nearest_name,
    setting_lines,
)
from noria.engine.steering.limits import STEERED
from noria.engine.steering.week import days_of, minute_of_day
from noria.engine.steering.windows import SettingsWindow
from noria.manifests.errors import ConfigurationError
from noria.manifests.job.control import SettingValue
from noria.manifests.model import ConflictPolicy, LinkPolicy, Treatment
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import suitable_part_bytes
from noria.manifests.plan.providers import PROVIDERS, NameRules, ProviderLimits
from noria.manifests.proof.note import check_name
from noria.workers.runtime.hold import SHARE_OF_TIMEOUT

MIB = 1024 * 1024
GIB = 1024 * MIB
BANDWIDTH_LEAST = 64 * 1024
"""A piece of a body then comes every eight seconds; stores close what stands still for twenty."""
TARGET_SHARDS = 32
"""Later splits give every worker some."""


def _check_url(value: str) -> str:
    try:
        parse_location(value)
    except ConfigurationError as error:
        raise ValueError(error.message) from error
    return value


def _check_key_name(value: str) -> str:
    check_name(value)
    return value


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it holds a character that cannot be printed")
    return value


_SIZE = TypeAdapter(ByteSize)
_SIZE_TEXT = re.compile(r"\s*[0-9]*\.?[0-9]+\s*[A-Za-z]*\s*")
_BINARY = re.compile(r"(?i)(?<=[0-9\s])([kmgtpe])i?\s*\Z")
"""Units that are written shorter than KiB."""


def parse_size(text: str | int) -> int:
    """Bytes from a number or a text. Raises ValueError.

    One rule for sizes and rates, in filters as well (manifests/plan/bounds.py): 8M and 8MiB are
    8 * 1024 * 1024, as rclone has it, and 8MB are 8,000,000.
    """
    try:
        # The adapter would pass over what follows a size.
        if isinstance(text, bool) or (isinstance(text, str) and not _SIZE_TEXT.fullmatch(text)):
            raise ValueError
        full = _BINARY.sub(r"\1iB", text) if isinstance(text, str) else text
        return int(_SIZE.validate_python(full))
    except (ValueError, OverflowError):
        raise ValueError(
            "this is not a size; write a number of bytes, 8M or 8MiB (8 * 1024 * 1024), 8MB "
            "(8,000,000)"
        ) from None


def parse_duration(value: object) -> object:
    """Seconds from a text such as 90s, 5m, 1h30m or 2d; anything else is returned as it is.

    Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    text = value.strip().lower().replace(" ", "")
    if not _DURATION.fullmatch(text):
        raise ValueError("this is not a duration; write a number of seconds, or 90s, 5m, 1h30m, 2d")
    parts = _DURATION_PART.findall(text)
    return sum(float(number) * _UNIT_SECONDS[unit or "s"] for number, unit in parts)


def parse_rate(value: object) -> object:
    """Bytes a second from a text such as 1KiB/s or 2Gbit/s; else the value is returned as it is.

    Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    size = re.sub(r"(?i)(/s|ps)$", "", value.strip())
    try:
        return parse_size(size) if size != "0" else 0
    except ValueError:
        raise ValueError(
            "this is not a rate; write a number of bytes a second, or 64KiB/s, 200MB/s, 2Gbit/s"
        ) from None


def parse_moment(value: object) -> str:
    """A time of TOML or a text of ISO 8601, as such a text. Raises ValueError without a zone."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            "this is not a time with its zone; write 2026-12-31T06:00:00+01:00, or "
            "2026-12-31T05:00:00Z"
        )
    return moment.isoformat()


_UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|m|h|d|w|)")
_DURATION = re.compile(r"[0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?(ms|s|min|m|h|d|w))+", re.ASCII)


def _check_bandwidth(value: float) -> float:
    if 0 < value < BANDWIDTH_LEAST:
        raise ValueError("stores give up on what comes so slowly; give 64KiB/s or more, 0 for any")
    return value


def _check_per_second(value: float) -> float:
    if 0 < value < 1:
        raise ValueError("less than one request a second moves nothing; give 1 or more, 0 for any")
    return value


def _auto_is_none(value: object) -> object:
    return None if value == "auto" else value


def _check_days(value: str) -> str:
    days_of(value)
    return value


def _check_time(value: str) -> str:
    minute_of_day(value)
    return value


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, LookupError):
        raise ValueError(
            'this machine knows no such zone; write one such as "Europe/Paris" or "UTC"'
        ) from None
    return value


def _none_is_zero(value: object) -> object:
    return 0 if value in ("none", "auto") else value


Url = Annotated[str, AfterValidator(_check_url)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, le=1 << 60)]
AutoSize = Annotated[Size | None, BeforeValidator(_auto_is_none)]
"""None, written as "auto": chosen by Noria."""
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=1e9)]
"""Up to 30 years: what clocks and waits can take."""
SecondsOrZero = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, le=1e9)]
"""0 has a meaning of its own."""
Rate = Annotated[float, BeforeValidator(parse_rate), Field(ge=0, le=1e9)]
"""Bytes a second."""
Bandwidth = Annotated[
    float, BeforeValidator(parse_rate), Field(ge=0, le=1e15), AfterValidator(_check_bandwidth)
]
"""Bytes a second; 0: any number."""
Days = Annotated[str, AfterValidator(_check_days)]
TimeOfDay = Annotated[str, AfterValidator(_check_time)]
Zone = Annotated[str, AfterValidator(_check_zone)]
PerSecond = Annotated[float, Field(ge=0, le=1e9), AfterValidator(_check_per_second)]
"""Requests a second; 0: any number."""
Moment = Annotated[str, BeforeValidator(parse_moment)]
"""A time with its zone, as ISO 8601 writes it."""
Printable = Annotated[str, AfterValidator(_check_printable)]
KeyName = Annotated[str, AfterValidator(_check_key_name)]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Region = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _with_address(values: Any) -> Any:
    """The values of a section with its URL in one of the three forms. Raises ValueError."""
    if not isinstance(values, dict) or not isinstance(values.get("url"), str):
        return values
    try:
        address = read_address(values["url"])
    except ConfigurationError as error:
        raise ValueError(error.message) from error
    values = {**values, "url": address.url}
    given = values.get("endpoint")
    if address.endpoint is None:
        return values
    if isinstance(given, str) and given.rstrip("/") != address.endpoint:
        raise ValueError(
            f"the URL names the endpoint {address.endpoint}, and endpoint another one; keep one"
        )
    return {**values, "endpoint": address.endpoint}


class EndConfig(_Section):
    """[source] or [target] of a job file."""

    url: Url
    """Where the objects are, or go: a location."""
    endpoint: Endpoint | None = None
    """None: AWS_ENDPOINT_URL[_S3], the connection string, or the cloud's own."""
    region: Region | None = None
    """To sign for, on S3. None: as the endpoint's name, AWS_REGION or the profile says."""
    provider: str | None = None
    """Whose limits hold: see manifests/plan/providers.py. None: as endpoint and probe tell."""
    profile: Printable | None = None
    """Section of AWS's shared credentials and config files. None: the whole chain."""
    ca_bundle: Printable | None = None
    """File of trusted roots. None: the system's."""
    allow_plain_http: bool = False
    """http to another machine than this one."""
    path_style: Annotated[bool | None, BeforeValidator(_auto_is_none)] = None
    """S3: true for HOST/BUCKET/KEY, false for BUCKET.HOST/KEY.

    "auto": as the provider of the endpoint asks for; the bucket in the path if that is not known.
    """
    anonymous: bool = False
    """Send no credentials: for a source that anybody may read."""

    @model_validator(mode="before")
    @classmethod
    def _as_copied(cls, values: Any) -> Any:
        """A URL as people copy it becomes one of the three forms, and the endpoint that it names.

        So job.json holds what was meant, whoever reads it, from whichever folder.
        """
        return _with_address(values)

    links: LinkPolicy = LinkPolicy.SKIP
    """Of a source that is a folder: "skip" and count its symbolic links, "refuse" to plan if there
    is one, or "follow" them, out of the folder too."""
    storage_class: Word | None = None
    """Of written objects: S3's storage class or Azure's tier, as the store spells it.

    "source": each object keeps its own, if both ends are S3 or both are Azure. None: the default of
    the bucket or account.
    """
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """Of written objects, on S3. None: as the bucket is set up."""
    kms_key_id: Printable | None = None
    """The key of aws:kms: its id or ARN. None: the account's own."""
    acl: Word | None = None
    """Canned access list of written objects, on S3, such as bucket-owner-full-control."""
    retention: Literal["carry"] | None = None
    """"carry": written objects get the retention and the legal hold that they have at the source,
    so that nobody can delete them before its end. None: they get none."""
    request_payer: bool = False
    """Pay for the requests, as a bucket of Requester Pays asks."""
    create: bool = False
    """Of a target: make the bucket or container, which nobody else can read, if it is missing. A
    folder is made anyway."""

    @field_validator("provider")
    @classmethod
    def _known_provider(cls, value: str | None) -> str | None:
        if value is not None and value not in PROVIDERS:
            # A word is most likely a typing error, anything else may be a secret in a wrong place.
            what = f"unknown provider {value!r}" if value.isalnum() else "this is not a provider"
            raise ValueError(f"{what}; choose one of {', '.join(PROVIDERS)}")
        return value

    @property
    def location(self) -> Location:
        return parse_location(self.url)


class InventoryConfig(_Section):
    """[inventory]: where the list of source objects comes from."""

    kind: Literal["listing", "azure-inventory", "s3-inventory", "keys"] = "listing"
    """A listing of the source now, a report of the cloud, or a file with a key on each line."""
    url: Url | None = None
    """The report's manifest, or the key list: a location like source and target."""
    endpoint: Endpoint | None = None
    """Of the store that holds the report. None: as for the source."""
    listing_streams: Annotated[int, Field(ge=1, le=256)] = 16
    """Pages of a listing that are asked for side by side. Of many datasets: 4 unless it is set."""
    names: Literal["whole", "relative"] = "whole"
    """Of a key list: as the container has them, or below the source's prefix.

    Keys in failures.parquet are relative.
    """

    @model_validator(mode="after")
    def _relative_names_in_a_list(self) -> InventoryConfig:
        if self.names == "relative" and self.kind != "keys":
            raise ValueError('names = "relative" is for kind = "keys" alone')
        return self

    @model_validator(mode="before")
    @classmethod
    def _as_copied(cls, values: Any) -> Any:
        return _with_address(values)


class PlanConfig(_Section):
    """[plan]: fixed when the job is planned, but for `scratch`."""

    part_bytes: AutoSize = None
    """What is sent at once; larger objects go in parts of this size, or larger if limits ask.

    A size is a number of bytes, or a text: 8M and 8MiB are 8 * 1024 * 1024, 8MB are 8,000,000.

    "auto": 16 to 64 MiB, so that the whole job has about a thousand parts if it can; and an object
    of 16 MiB or more is an upload of one part at least, which needs no memory of its size.
    """
    chunk_bytes: Size = 8 * MIB
    """Bytes under one digest of a receipt; parts are whole numbers of chunks."""
    shard_bytes: Size = 64 * GIB
    """Most bytes of a shard."""
    shard_objects: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    """Most objects of a shard."""
    least_shards: Annotated[int, Field(ge=1, le=1024)] = TARGET_SHARDS
    """A small job is cut into about so many shards, none of less than 64 objects and 64 MiB.

    Of many datasets: 1 unless it is set, since others are moved beside each.
    """
    segment_bytes: Size = 4 * GIB
    """Larger objects are cut in segments of about this size, which several workers move at once."""
    names: Literal["refuse", "escape"] = "refuse"
    """What to do with names that the target would change: refuse them, or map them to safe ones."""
    representable: Literal["all"] | None = None
    """"all": lose nothing that ATTRIBUTES.md counts. An entry that cannot move refuses the plan; an
    attribute that the target cannot hold refuses its object, unless it is mapped."""
    scratch: Annotated[Printable, Field(min_length=1)] | None = None
    """Folder for temporary files of planning and reconciling, on a disk of this machine if it can.

    A relative path is taken from the job file's folder. It may change from run to run. None: the
    temporary folder (TMPDIR).
    """

    @model_validator(mode="after")
    def _whole_chunks(self) -> PlanConfig:
        if self.part_bytes is not None and self.part_bytes % self.chunk_bytes:
            raise ValueError(
                f"part_bytes ({self.part_bytes}) must be a multiple of chunk_bytes "
                f"({self.chunk_bytes})"
            )
        return self


class SteeredConfig(_Section):
    """Settings that may change while a job runs: see RunConfig. None: nothing is said of it."""

    bandwidth: Annotated[Bandwidth | None, BeforeValidator(_none_is_zero)] = None
    """As in [run]; "none": any number."""
    source_requests_per_second: Annotated[PerSecond | None, BeforeValidator(_none_is_zero)] = None
    """As in [run]; "none": any number."""
    target_requests_per_second: Annotated[PerSecond | None, BeforeValidator(_none_is_zero)] = None
    """As in [run]; "none": any number."""
    workers: Annotated[int | None, Field(ge=0, le=10_000), BeforeValidator(_none_is_zero)] = None
    """As in [run]; "auto": as Noria finds right."""
    transfers: Annotated[int | None, Field(ge=0, le=1_000_000), BeforeValidator(_none_is_zero)] = (
        None
    )
    """As in [run]; "auto": as Noria finds right."""
    source_requests: Annotated[
        int | None, Field(ge=0, le=1_000_000), BeforeValidator(_none_is_zero)
    ] = None
    """As in [run]; "none": any number."""
    target_requests: Annotated[
        int | None, Field(ge=0, le=1_000_000), BeforeValidator(_none_is_zero)
    ] = None
    """As in [run]; "none": any number."""
    paused: bool | None = None
    """True: nothing new is begun. False: something is, whatever windows say."""

    @property
    def given(self) -> dict[str, SettingValue]:
        """What is said, by name."""
        return {name: getattr(self, name) for name in STEERED if getattr(self, name) is not None}


class WindowConfig(SteeredConfig):
    """[[windows]]: times of a week in which these settings precede those of [run]."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: Word | None = None
    """What it is called where it is told. None: by its number."""
    days: Days = "mon-sun"
    """Of its beginning: "mon-fri", "sat,sun"."""
    begins: TimeOfDay = Field(alias="from")
    """When it begins, by the clock of `zone`: "22:00"."""
    ends: TimeOfDay = Field(alias="to")
    """When it ends; not after `from`: on the next day."""
    zone: Zone = "UTC"
    """Of the clock: "Europe/Paris". Summer time is kept."""

    @model_validator(mode="after")
    def _says_something(self) -> WindowConfig:
        if not self.given:
            raise ValueError(f"a window needs one of {', '.join(STEERED)}")
        return self

    def window(self, number: int) -> SettingsWindow:
        """As engine/steering takes it."""
        return SettingsWindow(
            name=self.name or f"{number}",
            days=days_of(self.days),
            first_minute=minute_of_day(self.begins),
            end_minute=minute_of_day(self.ends),
            zone=ZoneInfo(self.zone),
            values=self.given,
        )


class PrometheusConfig(_Section):
    """prometheus = {...} of a guard: a query that is asked for again and again."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
    """Of the server, without /api: no user or password in it."""
    query: Annotated[str, Field(min_length=1)]
    """In PromQL."""
    above: float
    """The job yields while a value of the query is above this."""


class GuardConfig(_Section):
    """[source.guard] or [target.guard]: when the job leaves room for others at a store.

    One of `latency_factor`, `command` and `prometheus`.
    """

    latency_factor: Annotated[float | None, Field(gt=1, le=1000)] = None
    """The job yields while a small read takes longer than so many times its quiet baseline."""
    baseline: Annotated[Seconds | None, Field()] = None
    """What a small read takes when all is quiet: "20ms". None: learned before the first worker
    starts, and in pauses."""
    command: Printable | None = None
    """Run by /bin/sh: exit code 0, the job may go on; 1, it yields; other codes do not count."""
    prometheus: PrometheusConfig | None = None
    """A query whose value has a bound."""
    every: Annotated[Seconds, Field(ge=1)] = 5.0
    """How often it is asked."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Least share of its pace that the job keeps. 0: it may be stopped."""

    @model_validator(mode="after")
    def _one_way(self) -> GuardConfig:
        given = [self.latency_factor, self.command, self.prometheus]
        if sum(each is not None for each in given) != 1:
            raise ValueError("a guard needs one of latency_factor, command and prometheus")
        if self.baseline is not None and self.latency_factor is None:
            raise ValueError("baseline is for latency_factor alone")
        return self


class RunConfig(_Section):
    """[run]: may differ from run to run; the command line overrides it."""

    workers: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Worker processes. 0: one for each machine, and more while CPU is short, up to the CPUs."""
    transfers: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Objects and parts in flight, of all workers together. 0: found while running."""
    bandwidth: Bandwidth = 0.0
    """Bytes of objects a second that all workers together read: from the source, or from the target
    to verify. A byte counts once, whatever it costs at the other end. 0: any number."""
    streams: Annotated[int, Field(ge=1, le=4096)] = 512
    """Most transfers that each worker has in flight."""
    source_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Most requests in flight at the source, of all workers together. 0: one for each transfer."""
    target_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """The same at the target."""
    source_requests_per_second: PerSecond = 0.0
    """Most requests a second that all workers together begin at the source. 0: any number."""
    target_requests_per_second: PerSecond = 0.0
    """The same at the target."""
    bytes_in_flight: Size = 512 * MIB
    """Most buffer memory of each worker.

    A part that is streamed needs 1 MiB. Its whole size is needed by a part below 16 MiB, by an
    object of one request, and by any part for a target that takes no checksum behind the bytes.
    """
    range_bytes: Size = 64 * MIB
    """Most bytes asked for in one read."""
    source_crc64: bool = True
    """Ask a source in Azure for the CRC64 of all that is read (a structured message).

    Without it, a move from there reaches `ingested` at most. An endpoint that does not know such
    messages is read without.
    """
    leases: Annotated[int, Field(ge=1, le=16)] = 2
    """Leases a worker holds at a time; more while it has transfers to spare."""
    journal_seconds: Seconds = 1.0
    """How often what the target acknowledged is put on disk."""
    retry_seconds: SecondsOrZero = 300.0
    """How long one failing step is tried before its object has failed, while others get through."""
    outage_seconds: SecondsOrZero = 86_400.0
    """How long to wait for a store that answers nobody, before the run stops with exit code 3.

    0: not at all; objects fail after `retry_seconds` each, and the next run tries them again.
    """
    idle_seconds: Seconds = 60.0
    """How long a connection of a worker may wait for the next byte before it counts as broken."""
    least_rate: Rate = 1024.0
    """Fewest bytes a second of a body over a minute, or its connection counts as broken. 0: any."""
    deadline: Moment | None = None
    """By when the job should be done: a time with its zone, such as 2026-12-31T06:00:00+01:00. The
    status, the live page and the metrics say how far ahead of it the job is. None: it has none."""
    heartbeat_timeout_seconds: Seconds = 60.0
    """A worker that is silent for longer is lost, and others get its leases.

    One that does not hear its driver begins no request after half of that, and has ended, if
    anything is still in flight, after three quarters.
    """
    start_seconds: Seconds = 120.0
    """How long to wait for the first worker."""
    drain_seconds: Seconds = 20.0
    """How long parts in flight may take to end after Ctrl-C or SIGTERM.

    Together with what follows it has to fit into the half a minute that a spot machine is given.
    """
    source_md5: bool = True
    """Compare the bytes of each object that is read at once with the MD5 that its source states, if
    it does: Content-MD5 in Azure, an ETag of S3 that is one. An object that does not have it fails;
    a Content-MD5 may have been set wrongly."""
    unfit_metadata: Treatment = Treatment.REFUSE
    """What to do with metadata that the target cannot hold: "refuse" the object, "leave" the
    metadata, or "map" it to a form that says the same. The same for the following."""
    unfit_headers: Treatment = Treatment.REFUSE
    """Content-Disposition and the like."""
    unfit_tags: Treatment = Treatment.REFUSE
    """Tags that the target cannot hold, or refuses."""
    unfit_others: Treatment = Treatment.LEAVE
    """Expires, website redirect, type of blob; a storage class, encryption or retention about
    which [target] says nothing."""
    conflicts: ConflictPolicy = ConflictPolicy.REFUSE
    """What to do if another object is at the target than this migration left there: "refuse" the
    entry, which fails; "keep" what is there, and count the entry as skipped; or "replace" it, which
    takes `replace_foreign` as well. An equal object is none of these: it counts as present."""
    replace_foreign: bool = False
    """Yes, `conflicts = "replace"` may replace what others wrote. Nothing brings that back, unless
    the target keeps versions. What is deleted is never what others wrote."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How often a span of a shard may fail in one run before it is quarantined."""
    log_format: Literal["text", "json"] = "text"
    """Of log/noria.log in the job directory, which is put aside at 10 MB; five such are kept."""
    metrics_address: str | None = METRICS_ADDRESS
    """Where /metrics is served. None or "off": nowhere."""
    windows: tuple[WindowConfig, ...] = ()
    """Times of a week in which other settings hold; written as [[windows]]."""
    source_guard: GuardConfig | None = None
    """When the job leaves the source to others; written as [source.guard]."""
    target_guard: GuardConfig | None = None
    """The same of the target; written as [target.guard]."""

    @model_validator(mode="after")
    def _replaces_what_it_says(self) -> RunConfig:
        if self.conflicts is ConflictPolicy.REPLACE and not self.replace_foreign:
            raise ValueError(
                'conflicts = "replace" replaces what others wrote: set replace_foreign = true as '
                "well, or keep or refuse it"
            )
        return self

    @property
    def deadline_seconds(self) -> float | None:
        """Unix time of the deadline."""
        return None if self.deadline is None else datetime.fromisoformat(self.deadline).timestamp()

    @property
    def hold_seconds(self) -> float:
        """How long a worker goes on without its driver: see workers/runtime/hold.py."""
        return SHARE_OF_TIMEOUT * self.heartbeat_timeout_seconds

    @model_validator(mode="before")
    @classmethod
    def _first_edition(cls, values: Any) -> Any:
        """Small objects had places of their own beside `streams` once."""
        if isinstance(values, dict) and isinstance(values.get("small_requests"), int):
            values = dict(values)
            small = values.pop("small_requests")
            if isinstance(values.get("streams"), int):
                values["streams"] = min(4096, values["streams"] + small)
        return values


class SyncConfig(_Section):
    """[sync]: of the passes that follow the first; the command line overrides it."""

    deletions: Literal["report", "mirror"] = "report"
    """What becomes of objects that the source no longer has: they are listed in gone.parquet, or
    deleted at the target as well, if this migration wrote them and nobody has changed them."""
    deletions_max: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Most of what stands at the target that one pass may delete: 0.01 is one in a hundred."""
    two_people: bool = False
    """A cutover switches only after two people have approved its proof, each with a key of their
    own."""


class ProofConfig(_Section):
    """[proof]: who signs what a pass has moved, once it has ended and is reconciled."""

    signing_key: Printable | None = None
    """A file with an Ed25519 private key, its owner's alone, or with a public one whose private
    half ssh-agent has; a relative path is taken from the job file's folder. None: nothing is signed
    unasked, and `noria sign` does it at any time."""
    name: KeyName | None = None
    """Of the key, in signatures, such as example.eu/mover. None: user@host."""
    timestamp_url: Annotated[str | None, Field(pattern=r"^https?://[^\s@]+$")] = None
    """Of an authority (RFC 3161) that is asked for a time stamp of what was signed: no user or
    password in it. None: nobody is asked."""

    @model_validator(mode="after")
    def _stamps_what_is_signed(self) -> ProofConfig:
        if self.timestamp_url is not None and self.signing_key is None:
            raise ValueError("timestamp_url is for a job with signing_key")
        return self


class JobConfig(_Section):
    """A whole job file."""

    source: EndConfig
    target: EndConfig
    directory: Printable | None = None
    """The job directory. None: beside the job file, named like it."""
    inventory: InventoryConfig = InventoryConfig()
    filter: FilterConfig = FilterConfig()
    plan: PlanConfig = PlanConfig()
    run: RunConfig = RunConfig()
    sync: SyncConfig = SyncConfig()
    proof: ProofConfig = ProofConfig()

    @model_validator(mode="before")
    @classmethod
    def _steered_with_the_run(cls, values: Any) -> Any:
        """[[windows]] and guards may differ from run to run, as all of [run] may."""
        if not isinstance(values, dict) or not isinstance(values.get("run", {}), dict):
            return values
        values, moved = dict(values), {}
        if "windows" in values:
            moved["windows"] = values.pop("windows")
        for end in ("source", "target"):
            if isinstance(values.get(end), dict) and "guard" in values[end]:
                others = dict(values[end])
                moved[f"{end}_guard"] = others.pop("guard")
                values[end] = others
        return {**values, "run": {**values.get("run", {}), **moved}} if moved else values

    @field_validator("target")
    @classmethod
    def _target_with_credentials(cls, value: EndConfig) -> EndConfig:
        if value.anonymous:
            raise ValueError("anonymous is for a source; nothing is written without credentials")
        if value.links is not LinkPolicy.SKIP:
            raise ValueError("links is for a source; nothing is written through a link")
        return value

    @field_validator("source")
    @classmethod
    def _source_that_is_there(cls, value: EndConfig) -> EndConfig:
        if value.create:
            raise ValueError("create is for a target; a source is there, or has nothing to move")
        return value

    @model_validator(mode="after")
    def _classes_of_one_cloud(self) -> JobConfig:
        ends = (self.source.location.scheme, self.target.location.scheme)
        if self.target.storage_class == "source" and (ends[0] != ends[1] or Scheme.FILE in ends):
            raise ValueError(
                'target.storage_class = "source" needs two ends of one cloud, which spell classes '
                "alike"
            )
        return self

    @model_validator(mode="after")
    def _filter_of_what_is_listed(self) -> JobConfig:
        scheme, kind = self.source.location.scheme, self.inventory.kind
        by_name_alone = kind == "keys"
        unknown = {
            "age": by_name_alone,
            "tiers": by_name_alone or scheme is Scheme.FILE,
            "types": not by_name_alone and scheme is not Scheme.AZURE,
            "tags": by_name_alone or scheme is not Scheme.AZURE,
        }
        for what in (name for name, is_unknown in unknown.items() if is_unknown):
            if asked := [name for name in self.filter.asked if name.endswith(what)]:
                raise ValueError(
                    f'filter.{asked[0]} cannot be decided: an inventory of kind "{kind}" of '
                    f"{scheme}:// does not state it"
                )
        return self

    def plan_options(
        self, limits: ProviderLimits, rules: NameRules, target_prefix: str
    ) -> PlanOptions:
        """[plan] as manifests/plan/options.py takes it. Raises ConfigurationError.

        Parts of automatic size are those of a job of no bytes: freeze() knows how many there are.
        """
        plan = self.plan
        smallest = suitable_part_bytes(0, chunk_bytes=plan.chunk_bytes)
        return PlanOptions(
            limits=limits,
            rules=rules,
            target_prefix=target_prefix,
            part_bytes=plan.part_bytes or smallest,
            chunk_bytes=plan.chunk_bytes,
            shard_bytes=plan.shard_bytes,
            shard_objects=plan.shard_objects,
            segment_bytes=plan.segment_bytes,
            names=plan.names,
            target_shards=plan.least_shards,
        )


def read_job_file(path: Path) -> JobConfig:
    """Parse and validate a job file. Raises ConfigurationError: one line that names the field."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    try:
        values = tomllib.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        # A number of too many digits is a ValueError, lists in lists in lists a RecursionError.
        what = (
            error
            if isinstance(error, tomllib.TOMLDecodeError)
            else "a value that is too large or too deeply nested"
        )
        raise ConfigurationError(f"{path} is not valid TOML: {what}") from error
    for end in ("source", "target"):
        if isinstance(values.get(end), str):
            values[end] = {"url": values[end]}
    if "datasets" in values:
        raise ConfigurationError(
            f"{path} names many datasets, which `noria plan`, `noria run`, `noria sync` and "
            "`noria status` take; name the directory of one of them here"
        )
    for section in ("source", "target", "inventory"):
        resolve_path(values.get(section), path.parent)
    resolve_shared_paths(values, path.parent)
    try:
        return job_config(values, str(path))
    except WrongSettings:
        # Where they are is looked for only now: it takes a moment.
        return job_config(values, str(path), setting_lines(text.decode()))


def resolve_shared_paths(values: Mapping[str, Any], folder: Path) -> None:
    """Take the paths of other sections than the ends' from the folder that the job file is in."""
    for section, name in (("plan", "scratch"), ("proof", "signing_key")):
        found = values.get(section)
        if isinstance(found, dict) and isinstance(found.get(name), str) and found[name]:
            found[name] = str(folder.absolute() / found[name])
    _read_rules_of(values.get("filter"), folder)


def resolve_path(section: Any, folder: Path) -> None:
    """Take a relative path in a job file from the folder that the file is in, like `directory`.

    Raises ConfigurationError for one without ./ that is in the current folder alone.
    """
    url = section.get("url") if isinstance(section, dict) else None
    if not isinstance(url, str):
        return
    is_here = is_bare(url) and not url.startswith(("/", "~"))
    if (
        url in (".", "..")
        or url.startswith(("./", "../"))
        or (is_here and os.path.lexists(folder / url))
    ):
        section["url"] = file_url(str(folder / url))
    elif is_here and os.path.lexists(url):
        raise ConfigurationError(
            f"{url} is in the current folder, and not beside the job file, from where its paths "
            f"are taken: write {os.path.abspath(url)}"
        )


def _read_rules_of(section: Any, folder: Path) -> None:
    """Take in the rules of the file that filter.rules_from names, from the job file's folder."""
    if isinstance(section, dict) and isinstance(section.get("rules_from"), str):
        rules = read_rules(folder / section.pop("rules_from"))
        if isinstance(section.setdefault("rules", []), list):
            section["rules"] += rules


def with_settings(
    config: JobConfig, given: Mapping[str, Mapping[str, Any]], where: str
) -> JobConfig:
    """The job with these settings, by section, instead of its own. Raises ConfigurationError."""
    if not any(given.values()):
        return config
    values = config.model_dump(mode="json", exclude_unset=True)
    changed = {name: {**values.get(name, {}), **section} for name, section in given.items()}
    return job_config({**values, **changed}, where)


def duration_seconds(text: str, where: str) -> float:
    """A duration as people write it. Raises ConfigurationError."""
    try:
        return TypeAdapter(SecondsOrZero).validate_python(text)
    except ValidationError as error:
        raise ConfigurationError(
            f"{where}: this is not a duration; write a number of seconds, or 90s, 5m, 1h30m, 2d"
        ) from error


def job_config(
    values: Mapping[str, Any], where: str, lines: Mapping[SettingPath, int] | None = None
) -> JobConfig:
    """Validate the values of a job. Raises WrongSettings, which never repeats a value.

    `lines` says where in the file each setting stands.
    """
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, where, lines or {}, _names_by_section()) from None


def steered_config(given: Sequence[str], where: str) -> SteeredConfig:
    """Settings from texts such as `bandwidth=2Gbit/s`. Raises WrongSettings, for all at once.

    A name may have its section in front, and that of an end a dot: `source.requests_per_second`.
    """
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise WrongSettings([f"{where}: {name}: write it as {name}=VALUE"])
        values[steered_name(name)] = value.strip()
    try:
        return SteeredConfig.model_validate_strings(values)
    except ValidationError as error:
        raise _refusal(error, where, {}, {"": list(STEERED)}) from None


def steered_name(text: str) -> str:
    """The name of a setting as people write it, such as `run.bandwidth`."""
    return text.strip().replace("-", "_").removeprefix("run.").replace(".", "_")


def end_config(values: Mapping[str, Any], where: str) -> EndConfig:
    """Validate the values of one end. Raises WrongSettings, which never repeats a value."""
    try:
        return EndConfig.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, where, {}, {"": list(EndConfig.model_fields)}) from None


def _names_by_section() -> dict[str, list[str]]:
    sections: dict[str, type[BaseModel]] = {
        "source": EndConfig,
        "target": EndConfig,
        "inventory": InventoryConfig,
        "filter": FilterConfig,
        "plan": PlanConfig,
        "run": RunConfig,
        "sync": SyncConfig,
        "proof": ProofConfig,
    }
    windows = [*STEERED, "name", "days", "from", "to", "zone"]
    names = {section: list(model.model_fields) for section, model in sections.items()}
    of_guards = {f"{end}.guard": list(GuardConfig.model_fields) for end in ("source", "target")}
    return {"": [*JobConfig.model_fields, "windows"], **names, "windows": windows, **of_guards}


_WRITTEN: dict[tuple[str | int, ...], tuple[str | int, ...]] = {
    ("run", "windows"): ("windows",),
    ("run", "source_guard"): ("source", "guard"),
    ("run", "target_guard"): ("target", "guard"),
}
"""Where a job file has what belongs to a run."""


def _refusal(
    error: ValidationError,
    where: str,
    lines: Mapping[SettingPath, int],
    names: Mapping[str, Sequence[str]],
) -> WrongSettings:
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        path = each["loc"]
        path = _WRITTEN.get(path[:2], path[:2]) + path[2:]
        field = ".".join(map(str, path))
        message = each["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        if each["type"] == "extra_forbidden":
            section = ".".join(str(part) for part in path[:-1] if isinstance(part, str))
            message = f"no such setting{nearest_name(str(path[-1]), names, section)}"
        elif each["type"] == "missing":
            message = "it is missing"
        # The line of the setting, or of the section that lacks it.
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
        place = where if line is None else f"{where}, line {line}"
        found.append(
            (line or 0, f"{place}: {field}: {message}" if field else f"{place}: {message}")
        )
    refused = [text for _, text in sorted(found, key=lambda each: each[0])]
    if len(refused) > ERRORS_MAX:
        refused[ERRORS_MAX:] = [f"{where}: and {len(refused) - ERRORS_MAX:,} more"]
    return WrongSettings(refused)


def with_endpoints(config: JobConfig, environment: Mapping[str, str] = os.environ) -> JobConfig:
    """The job with the endpoints of this environment written down.

    So every node and every later run uses the same stores.
    """
    ends = {
        name: end.model_copy(update={"endpoint": s3_endpoint(end, environment)})
        for name, end in (("source", config.source), ("target", config.target))
        if end.location.scheme is Scheme.S3
    }
    return config.model_copy(update=ends)
