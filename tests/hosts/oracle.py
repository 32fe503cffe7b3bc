"""What must hold after a job on hosts, whatever happened to them, and some time later still.

    I1   what a receipt says has landed is there, byte for byte as the generator made it
    I2   no entry has two receipts that count; at the end of a job each has one
    I3   whatever is there is whole
    I4   nothing is there that is not of this job
    I7   the uploads that are open at the target are those that the report says are open
    I17  a host that was silenced begins no request after half of the time-out, and nothing that it
         began before arrives once its driver has given it up
    end  once the job has ended nothing is written to the target, and nothing there changes

Asked of the servers, the fronts' logs and the files: nothing of Noria's own is imported.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from noria.benchmarks.servers.dataset import ObjectSpec, object_bytes
from tests.hosts.front import FrontRequest, Fronts

LANDED = ("TRANSFERRED", "ALREADY_PRESENT")
HOLD = 0.5
"""Of the time-out: the promise of I17."""
SLACK_SECONDS = 1.0
"""Between a worker's look at its clock and the first byte of its request at the front."""
WAKE_SECONDS = 3.0
"""What a host that stood still may take to notice, and to end."""
GIVEN_UP_SECONDS = 2.0
"""After the time-out the driver has surely given a silent worker up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilentTime:
    """A time in which a host's workers were not heard."""

    address: str
    begun: float
    ended: float
    still: bool = False
    """Its processes stood still, too."""

    def bound(self, timeout: float) -> float:
        """After this no request begins while the silence lasts."""
        return self.begun + HOLD * timeout + SLACK_SECONDS


@dataclass(frozen=True, slots=True)
class TargetContent:
    """The target at one moment."""

    objects: dict[str, tuple[int, str, str]]
    """Key -> size, ETag, time of change."""
    uploads: tuple[tuple[str, str], ...]


def held(client: Any, bucket: str) -> TargetContent:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    items = [item for page in pages for item in page.get("Contents", ())]
    open_uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads") or []
    return TargetContent(
        {each["Key"]: (each["Size"], each["ETag"], str(each["LastModified"])) for each in items},
        tuple(sorted((each["Key"], each["UploadId"]) for each in open_uploads)),
    )


def sealed_receipts(job: Path) -> Iterator[tuple[str, str]]:
    """Key at the target and outcome of every receipt that counts."""
    for stated in _seals(job):
        if stated["kind"] != "parts":
            table = pq.read_table(job / stated["result_name"], columns=["target_key", "outcome"])
            for row in table.to_pylist():
                yield row["target_key"], row["outcome"]


def _seals(job: Path) -> Iterator[dict[str, Any]]:
    """Of the same units the newest, if no newer attempt has taken them back."""
    found = [json.loads(name.read_text()) for name in job.glob("sealed/*/*.json")]
    for name in job.glob("sealed/segments/*/*.json"):
        found += json.loads(name.read_text())
    newest = {_units(seal): seal for seal in sorted(found, key=lambda seal: seal["attempt"])}
    taken_back = Counter[tuple[Any, ...]]()
    for name in job.glob("superseded/*/sealed/*/*.json"):
        attempt = int(name.relative_to(job).parts[1])
        units = _units(json.loads(name.read_text()))
        taken_back[units] = max(taken_back[units], attempt)
    for units in sorted(newest):
        if newest[units]["attempt"] > taken_back[units]:
            yield newest[units]


def _units(seal: dict[str, Any]) -> tuple[Any, ...]:
    return seal["shard"], seal["kind"], seal["generation"], seal["first"]


def late_requests(
    requests: Sequence[FrontRequest], silence: SilentTime, timeout: float
) -> list[FrontRequest]:
    """What a silenced host asked for that it had no right to any more."""
    bound, over = silence.bound(timeout), silence.ended
    given_up = over - silence.begun > timeout + GIVEN_UP_SECONDS
    wake = WAKE_SECONDS if silence.still else SLACK_SECONDS
    found = []
    for request in requests:
        if request.address != silence.address or request.connected > over:
            continue
        begun_late = bound < request.begun < over and not silence.still
        went_on = given_up and request.begun > bound and request.begun > over + wake
        arrived = given_up and request.writes and request.last > max(bound, over + wake)
        if begun_late or went_on or arrived:
            found.append(request)
    return found


@dataclass(slots=True, kw_only=True)
class Oracle:
    """The questions about one job. Each that is answered as it must be is counted."""

    client: Any
    bucket: str
    job: Path
    specs: Sequence[ObjectSpec]
    seed: int
    fronts: Fronts
    questions: int = 0
    _last: TargetContent | None = field(default=None)

    def ask_at_end(self, report: dict[str, Any], *, complete: bool = True) -> None:
        """When a run has ended. `complete`: it said that all has moved."""
        now = held(self.client, self.bucket)
        self._last = now
        sizes = {spec.key: spec.size for spec in self.specs}
        self._expect(not now.objects.keys() - sizes.keys(), "I4: nothing else is there")
        for key in now.objects:
            body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            self._expect(body == object_bytes(self.seed, key, 0, sizes[key]), f"I1, I3: {key}")
        receipts = list(sealed_receipts(self.job))
        landed = {key for key, outcome in receipts if outcome in LANDED}
        lies = landed - now.objects.keys()
        self._expect(not lies, f"I1: said to have landed, and not there: {lies}")
        twice = [key for key, count in Counter(key for key, _ in receipts).items() if count > 1]
        self._expect(not twice, f"I2: two receipts count of {twice}")
        if not complete:
            return
        self._expect(report["outcomes"] == {"TRANSFERRED": len(sizes)}, f"I2: {report['outcomes']}")
        self._expect(report["reconciled"] is True, "I2: reconciled")
        self._expect(now.objects.keys() == sizes.keys(), "I2: all is there")
        self._expect(
            report["open_uploads"] == len(now.uploads),
            f"I7: {report['open_uploads']} uploads are said to be open, these are: {now.uploads}",
        )

    def ask_of_silence(self, silences: Sequence[SilentTime], timeout: float) -> None:
        for silence in silences:
            for front in (self.fronts.source, self.fronts.target):
                late = late_requests(front.seen(), silence, timeout)
                self._expect(not late, f"I17: {_told(late, silence)}")

    def ask_for_no_uploads(self) -> None:
        left = held(self.client, self.bucket).uploads
        self._expect(not left, f"I7: uploads are left open: {left}")

    def ask_of_turns(self, first: str, second: str) -> None:
        """Whether the second host was given something that the first one still wrote."""
        writes = [(each.path.partition("?")[0], each) for each in self._writes()]
        begun: dict[str, float] = {}
        for key, request in writes:
            if request.address == second:
                begun.setdefault(key, request.begun)
        late = [
            str(request)
            for key, request in writes
            if request.address == first and max(request.begun, request.last) > begun.get(key, inf)
        ]
        self._expect(not late, f"I17: written by two hosts in turns: {late[:5]}")

    def has_upload(self, address: str) -> bool:
        return any(
            each.address == address and each.path.partition("?")[2].startswith("uploads")
            for each in self._writes()
        )

    def _writes(self) -> list[FrontRequest]:
        """Those of this job's objects, as they began."""
        seen = self.fronts.target.seen()
        ours = [each for each in seen if each.writes and f"/{self.bucket}/" in each.path]
        return sorted(ours, key=lambda request: request.begun)

    def ask_later(self, ended: float, seconds: float) -> None:
        """When `seconds` have passed since the end of the job, at `ended`."""
        time.sleep(max(0.0, ended + seconds - time.monotonic()))
        late = [
            each
            for each in self.fronts.target.seen(since=ended)
            if each.writes and f"/{self.bucket}" in each.path
        ]
        self._expect(not late, f"end: written after the end: {[*map(str, late)]}")
        now = held(self.client, self.bucket)
        self._expect(now == self._last, f"end: the target has changed: {self._last} -> {now}")

    def _expect(self, holds: bool, question: str) -> None:
        assert holds, question
        self.questions += 1


def _told(late: Sequence[FrontRequest], silence: SilentTime) -> str:
    shown = [
        f"{each} at {each.begun - silence.begun:.1f} s, its last byte at "
        f"{each.last - silence.begun:.1f} s"
        for each in late[:5]
    ]
    lasted = silence.ended - silence.begun
    return f"{len(late)} late requests in or after a silence of {lasted:.1f} s: {shown}"
