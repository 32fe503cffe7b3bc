"""What a user asks for: the job file and the options of a command, validated once.

A job file may name endpoints and regions, never a secret. Endpoints that only the environment names
are written down when a job is planned; credentials are read by each worker process from its own
environment (stores.py), so that none travels between nodes or is in the job directory.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

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

from noria.engine.config.addresses import file_url, read_address
from noria.engine.config.locations import (
    METRICS_ADDRESS,
    Location,
    Scheme,
    check_endpoint,
    parse_location,
    s3_endpoint,
)
from noria.manifests.errors import ConfigurationError
from noria.manifests.model import LinkPolicy, Treatment
from noria.manifests.plan.options import PlanOptions
from noria.manifests.plan.parts import suitable_part_bytes
from noria.manifests.plan.providers import PROVIDERS, NameRules, ProviderLimits
from noria.workers.runtime.hold import SHARE_OF_TIMEOUT

MIB = 1024 * 1024
GIB = 1024 * MIB
TARGET_SHARDS = 32
"""A small job is cut into about this many shards; later splits give every worker some."""


def _check_url(value: str) -> str:
    try:
        parse_location(value)
    except ConfigurationError as error:
        raise ValueError(error.message) from error
    return value


def _check_printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it holds a character that cannot be printed")
    return value


_SIZE = TypeAdapter(ByteSize)


def parse_size(text: str | int) -> int:
    """Bytes from a number or a text such as 64MiB. Raises ValueError."""
    try:
        if isinstance(text, bool):
            raise ValueError
        return int(_SIZE.validate_python(text))
    except (ValueError, OverflowError):
        raise ValueError("this is not a size; write a number of bytes, or 8MiB, 1.5GiB") from None


def _auto_is_none(value: object) -> object:
    return None if value == "auto" else value


Url = Annotated[str, AfterValidator(_check_url)]
Endpoint = Annotated[str, AfterValidator(check_endpoint)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, le=1 << 60)]
AutoSize = Annotated[Size | None, BeforeValidator(_auto_is_none)]
"""None, written as "auto": chosen by Noria."""
Seconds = Annotated[float, Field(gt=0, le=1e9)]
"""Up to 30 years: what clocks and waits can take."""
Printable = Annotated[str, AfterValidator(_check_printable)]
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
    endpoint: Endpoint | None = None
    """None: AWS_ENDPOINT_URL[_S3], the connection string, or the cloud's own."""
    region: Region | None = None
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
    url: Url | None = None
    """The report's manifest, or the key list: a location like source and target."""
    endpoint: Endpoint | None = None
    """Of the store that holds the report. None: as for the source."""
    listing_streams: Annotated[int, Field(ge=1, le=256)] = 16
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
    """[plan]: fixed when the job is planned."""

    part_bytes: AutoSize = None
    """What is sent at once; larger objects go in parts of this size, or larger if limits ask.

    "auto": 16 to 64 MiB, so that the whole job has about a thousand parts if it can; and an object
    of 16 MiB or more is an upload of one part at least, which needs no memory of its size.
    """
    chunk_bytes: Size = 8 * MIB
    """Bytes under one digest of a receipt; parts are whole numbers of chunks."""
    shard_bytes: Size = 64 * GIB
    shard_objects: Annotated[int, Field(ge=1, le=1_000_000)] = 100_000
    segment_bytes: Size = 4 * GIB
    """Larger objects are cut in segments of about this size, which several workers move at once."""
    names: Literal["refuse", "escape"] = "refuse"
    """What to do with names that the target would change: refuse them, or map them to safe ones."""
    representable: Literal["all"] | None = None
    """"all": lose nothing that ATTRIBUTES.md counts. An entry that cannot move refuses the plan; an
    attribute that the target cannot hold refuses its object, unless it is mapped."""

    @model_validator(mode="after")
    def _whole_chunks(self) -> PlanConfig:
        if self.part_bytes is not None and self.part_bytes % self.chunk_bytes:
            raise ValueError(
                f"part_bytes ({self.part_bytes}) must be a multiple of chunk_bytes "
                f"({self.chunk_bytes})"
            )
        return self


class RunConfig(_Section):
    """[run]: may differ from run to run; the command line overrides it."""

    workers: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Worker processes. 0: one for each machine, and more while CPU is short, up to the CPUs."""
    transfers: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Objects and parts in flight, of all workers together. 0: found while running."""
    streams: Annotated[int, Field(ge=1, le=4096)] = 512
    """Most transfers that each worker has in flight."""
    source_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Most requests in flight at the source, of all workers together. 0: one for each transfer."""
    target_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
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
    retry_seconds: Annotated[float, Field(ge=0, le=1e9)] = 300.0
    """How long one failing step is tried before its object has failed, while others get through."""
    outage_seconds: Annotated[float, Field(ge=0, le=1e9)] = 86_400.0
    """How long to wait for a store that answers nobody, before the run stops with exit code 3.

    0: not at all; objects fail after `retry_seconds` each, and the next run tries them again.
    """
    idle_seconds: Seconds = 60.0
    """How long a connection of a worker may wait for the next byte before it counts as broken."""
    least_rate: Annotated[float, Field(ge=0, le=1e9)] = 1024.0
    """Fewest bytes a second of a body over a minute, or its connection counts as broken. 0: any."""
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
    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """How often a span of a shard may fail in one run before it is quarantined."""
    log_format: Literal["text", "json"] = "text"
    """Of log/noria.log in the job directory, which is put aside at 10 MB; five such are kept."""
    metrics_address: str | None = METRICS_ADDRESS
    """Where /metrics is served. None or "off": nowhere."""

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


class JobConfig(_Section):
    """A whole job file."""

    source: EndConfig
    target: EndConfig
    directory: Printable | None = None
    """The job directory. None: beside the job file, named like it."""
    inventory: InventoryConfig = InventoryConfig()
    plan: PlanConfig = PlanConfig()
    run: RunConfig = RunConfig()

    @field_validator("target")
    @classmethod
    def _target_with_credentials(cls, value: EndConfig) -> EndConfig:
        if value.anonymous:
            raise ValueError("anonymous is for a source; nothing is written without credentials")
        if value.links is not LinkPolicy.SKIP:
            raise ValueError("links is for a source; nothing is written through a link")
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
            target_shards=TARGET_SHARDS,
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
    for section in ("source", "target", "inventory"):
        _resolve_path(values.get(section), path.parent)
    return job_config(values, str(path))


def _resolve_path(section: Any, folder: Path) -> None:
    """Take a relative path in a job file from the folder that the file is in, like `directory`."""
    url = section.get("url") if isinstance(section, dict) else None
    if isinstance(url, str) and (url in (".", "..") or url.startswith(("./", "../"))):
        section["url"] = file_url(str(folder / url))


def job_config(values: Mapping[str, Any], where: str) -> JobConfig:
    """Validate the values of a job. Raises ConfigurationError, which never repeats a value."""
    try:
        return JobConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        place = f"{where}: {field}" if field else where
        raise ConfigurationError(f"{place}: {message}{more}") from None


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
