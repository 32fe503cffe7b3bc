"""What facts mean for a job: marks, and that notes and lacks say what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from noria.engine.findings import (
    Finding,
    Mark,
    changed_names,
    service_findings,
    source_findings,
    target_findings,
)
from noria.manifests.plan.providers import NameRules
from noria.workers.stores.inspection import (
    Granted,
    Protection,
    Service,
    SourceRights,
    TargetRights,
)
from noria.workers.stores.probe import TargetFacts
from noria.workers.stores.protocol import NOTHING_KNOWN, Checksum, TargetCapabilities

NOW = 1_800_000_000.0
DAY = 24 * 3600.0
SERVICE = Service(
    endpoint="https://s3.example.org",
    credentials="access key",
    encryption="TLSv1.3, TLS_AES_256_GCM_SHA384",
    clock_seconds=0.4,
    region="fr-par",
    region_stated="fr-par",
)
LEAST = SourceRights(
    lists=Granted.YES,
    reads=Granted.YES,
    reads_tags=Granted.YES,
    lists_outside=Granted.NO,
    writes=Granted.NO,
    deletes=Granted.NO,
)
AT_TARGET = TargetRights(
    lists_uploads=Granted.YES, aborts_uploads=Granted.YES, lists_outside=Granted.NO
)
BEST = TargetFacts(
    capabilities=TargetCapabilities(
        checksum=Checksum.CRC64NVME,
        if_absent=True,
        atomic_complete=True,
        checksum_in_trailer=True,
        if_match=True,
        if_match_delete=True,
    ),
    name_rules=NameRules(),
    provider="aws",
    keeps_metadata=True,
    keeps_tags=True,
)


def marks(findings: Any) -> dict[str, str]:
    found: list[Finding] = list(findings)
    assert len({finding.topic for finding in found}) == len(found)
    for finding in found:
        assert (finding.mark is Mark.OK) == (not finding.advice), finding
    return {finding.topic: finding.mark.value for finding in found if finding.mark is not Mark.OK}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, {}),
        ({"clock_seconds": 12.0}, {"clock": "note"}),
        ({"clock_seconds": -70.0}, {"clock": "lacks"}),
        ({"clock_seconds": None}, {}),
        ({"encryption": None}, {"reach": "note"}),
        ({"encryption": None, "endpoint": "http://[::1]:80"}, {}),
        ({"region_stated": "nl-ams"}, {"region": "note"}),
        ({"region_stated": None}, {}),
        ({"credentials_end": NOW - 1}, {"credentials": "lacks"}),
        ({"credentials_end": NOW + DAY / 2}, {"credentials": "note"}),
        ({"credentials_end": NOW + 2 * DAY}, {}),
        ({"credentials_end": NOW + 60, "credentials_renew": True}, {}),
        ({"credentials": "temporary access key", "credentials_renew": True}, {}),
        ({"credentials": "the account's key"}, {"credentials": "note"}),
        ({"credentials": "temporary access key"}, {"credentials": "note"}),
        ({"free_bytes": 2**20}, {"room": "note"}),
    ],
)
def test_the_service_and_the_way_to_it(change: dict[str, Any], found: dict[str, str]) -> None:
    assert marks(service_findings(replace(SERVICE, **change), NOW)) == found


@pytest.mark.parametrize(
    ("change", "must_list", "found"),
    [
        ({}, True, {}),
        ({"lists": Granted.NO}, True, {"list": "lacks"}),
        ({"lists": Granted.NO}, False, {}),
        ({"reads": Granted.NO}, True, {"read": "lacks"}),
        ({"reads": Granted.UNCLEAR}, True, {"read": "note"}),
        ({"reads_tags": Granted.NO}, True, {"tags": "note"}),
        ({"writes": Granted.YES}, True, {"may-write": "note"}),
        ({"deletes": Granted.YES}, True, {"may-delete": "note"}),
        ({"deletes": Granted.UNCLEAR}, True, {}),
        ({"lists_outside": Granted.YES}, True, {"outside": "note"}),
    ],
)
def test_rights_at_a_source(change: dict[str, Any], must_list: bool, found: dict[str, str]) -> None:
    rights = replace(LEAST, **change)
    findings = source_findings(rights, Protection(), provider="aws", must_list=must_list)
    assert marks(findings) == found


def test_rights_of_azure_end_at_the_container() -> None:
    rights = replace(LEAST, lists_outside=Granted.YES)
    assert marks(source_findings(rights, Protection(), provider="azure", must_list=True)) == {}


def test_who_owns_a_folder_may_write_it() -> None:
    rights = replace(LEAST, writes=Granted.YES, deletes=Granted.YES, lists_outside=Granted.YES)
    assert marks(source_findings(rights, Protection(), provider="local", must_list=True)) == {}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, {}),
        ({"lists_parts": False}, {"parts": "note"}),
        ({"keeps_tags": False}, {"tags": "note"}),
        ({"spoiled_names": ("spaces",)}, {"odd-names": "lacks"}),
        ({"name_rules": NameRules(merges_slashes=True)}, {"names": "note"}),
        (
            {"capabilities": NOTHING_KNOWN},
            {"checksum": "note", "condition": "note", "replace": "note"},
        ),
        (
            {"capabilities": replace(BEST.capabilities, atomic_complete=False)},
            {"condition": "note", "replace": "note"},
        ),
        ({"capabilities": replace(BEST.capabilities, if_match=False)}, {"replace": "note"}),
        ({"capabilities": replace(BEST.capabilities, if_match_delete=False)}, {"replace": "note"}),
        (
            {"capabilities": replace(BEST.capabilities, checksum_in_trailer=False)},
            {"trailer": "note"},
        ),
    ],
)
def test_a_target(change: dict[str, Any], found: dict[str, str]) -> None:
    facts = replace(BEST, **change)
    findings = target_findings(facts, AT_TARGET, Protection(), provider="aws")
    assert marks(findings) == found


def test_a_target_that_keeps_what_is_written() -> None:
    facts = replace(BEST, wrote_objects=False, keeps_metadata=None, keeps_tags=None)
    protection = Protection(versioned=True, locks=True, retention="GOVERNANCE, 30 days")
    findings = list(target_findings(facts, AT_TARGET, protection, provider="aws"))
    assert marks(findings) == {"retention": "note"}
    assert "write" not in {finding.topic for finding in findings}, "nothing was written"


def test_a_right_that_is_missing_at_a_target() -> None:
    rights = replace(AT_TARGET, aborts_uploads=Granted.NO)
    findings = target_findings(BEST, rights, Protection(), provider="aws")
    assert marks(findings) == {"uploads-abort": "lacks"}


def test_every_rule_for_names_has_words() -> None:
    """`refuses_nul` alone is not said: no store takes such a name."""
    silent = {"refuses_nul", "reserved_segments", "max_segment_bytes"}
    for rule in NameRules.__dataclass_fields__.keys() - silent:
        values: dict[str, Any] = {rule: True}
        assert len(changed_names(NameRules(**values))) == 1, rule
