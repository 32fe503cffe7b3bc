"""What a user asks for: every setting of a job file, with its bounds. It is read by reading.py.

A job file may name endpoints and regions, never a secret. Endpoints that only the environment names
are written down when a job is planned; credentials are read by each worker process from its own
environment (stores.py), so that none travels between nodes or is in the job directory.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from noria.engine.config.addresses import read_address
from noria.engine.config.filters import FilterConfig
from noria.engine.config.locations import (
    METRICS_ADDRESS,
    Location,
    Scheme,
    parse_location,
)
from noria.engine.config.quantities import (
    AutoSize,
    Bandwidth,
    Days,
    Endpoint,
    KeyName,
    Moment,
    PerSecond,
    Printable,
    Rate,
    Region,
    Seconds,
    SecondsOrZero,
    Size,
    TimeOfDay,
    Url,
    Word,
    Zone,
    auto_is_none,
    none_is_zero,
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
from noria.workers.runtime.hold import SHARE_OF_TIMEOUT

MIB = 1024 * 1024
GIB = 1024 * MIB
TARGET_SHARDS = 32
"""Later splits give every worker some."""


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
    path_style: Annotated[bool | None, BeforeValidator(auto_is_none)] = None
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

    bandwidth: Annotated[Bandwidth | None, BeforeValidator(none_is_zero)] = None
    """As in [run]; "none": any number."""
    source_requests_per_second: Annotated[PerSecond | None, BeforeValidator(none_is_zero)] = None
    """As in [run]; "none": any number."""
    target_requests_per_second: Annotated[PerSecond | None, BeforeValidator(none_is_zero)] = None
    """As in [run]; "none": any number."""
    workers: Annotated[int | None, Field(ge=0, le=10_000), BeforeValidator(none_is_zero)] = None
    """As in [run]; "auto": as Noria finds right."""
    transfers: Annotated[int | None, Field(ge=0, le=1_000_000), BeforeValidator(none_is_zero)] = (
        None
    )
    """As in [run]; "auto": as Noria finds right."""
    source_requests: Annotated[
        int | None, Field(ge=0, le=1_000_000), BeforeValidator(none_is_zero)
    ] = None
    """As in [run]; "none": any number."""
    target_requests: Annotated[
        int | None, Field(ge=0, le=1_000_000), BeforeValidator(none_is_zero)
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
