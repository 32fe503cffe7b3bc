"""A lake moves to and from each cloud as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from noria.benchmarks.servers import S3Server
from tests.clouds.conftest import LAKE, TAGGED, TAGS, Lakes, lake_with
from tests.clouds.profiles import PROFILES, CloudProfile
from tests.clouds.proxy import CloudProxy
from tests.clouds.rules import refused
from tests.support.fault_proxy.rules import Fault, Operation, on


def named(name: str) -> CloudProfile:
    return next(profile for profile in PROFILES if profile.name == name)


EACH = pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
Play = Callable[[CloudProfile], CloudProxy]


@EACH
def test_to_the_cloud(profile: CloudProfile, lakes: Lakes, play: Play) -> None:
    source, target = lakes.place(azure=not profile.azure), lakes.place(azure=profile.azure)
    lakes.fill(source)
    done = lakes.move(
        source,
        target,
        play(profile),
        at_cloud="target",
        provider=profile.provider,
        run={} if profile.keeps_tags else {"unfit_tags": "leave"},
    )
    assert (done["outcomes"], done["reconciled"]) == ({"TRANSFERRED": len(LAKE)}, True)
    left = {} if profile.keeps_tags else {profile.tags_left_as: len(TAGGED)}
    assert done["changes"] == left
    assert lakes.found(target) == lake_with(tags=profile.keeps_tags)
    facts = json.loads((Path(done["directory"]) / "job.json").read_text())["facts"]
    assert {name: facts[name] for name in profile.facts} == profile.facts


@EACH
def test_from_the_cloud(profile: CloudProfile, lakes: Lakes, play: Play) -> None:
    source, target = lakes.place(azure=profile.azure), lakes.place(azure=not profile.azure)
    lakes.fill(source)
    done = lakes.move(source, target, play(profile), at_cloud="source", provider=profile.provider)
    assert (done["outcomes"], done["reconciled"]) == ({"TRANSFERRED": len(LAKE)}, True)
    assert set(done["changes"]) == (set() if profile.shows_tags else {"tags_unreadable"})
    assert lakes.found(target) == lake_with(tags=profile.shows_tags)


def test_tags_that_a_cloud_refuses_fail_by_name(lakes: Lakes, play: Play) -> None:
    """By default nothing is left out: such objects fail, and the message names the setting."""
    source, target = lakes.place(azure=True), lakes.place(azure=False)
    lakes.fill(source)
    done = lakes.move(source, target, play(named("b2")), at_cloud="target", exit_code=1)
    outcomes = {"TRANSFERRED": len(LAKE) - len(TAGGED), "FAILED": len(TAGGED)}
    assert (done["outcomes"], done["causes"]) == (outcomes, {"tags_refused": len(TAGGED)})
    assert all("run.unfit_tags" in failure["message"] for failure in done["failures"])
    assert set(lakes.found(target)) == {spec.key for spec in LAKE} - set(TAGGED)


def test_a_bucket_of_another_region_is_named_before_anything_is_written(
    lakes: Lakes, play: Play
) -> None:
    source, target = lakes.place(azure=True), lakes.place(azure=False)
    cloud = play(named("aws"))
    message = "The bucket you are attempting to access must be addressed using the specified"
    moved = refused(301, "PermanentRedirect", message, {"x-amz-bucket-region": "eu-west-3"})
    cloud.add(Fault(match=on(), action=moved, times=None))
    done = lakes.move(source, target, cloud, at_cloud="target", exit_code=2)
    assert "eu-west-3" in done["error"]
    assert cloud.methods() <= {"GET", "HEAD"}


@pytest.mark.parametrize("end", ["source", "target"])
def test_a_store_that_is_busy_when_a_job_is_planned_is_asked_again(
    lakes: Lakes, play: Play, end: Literal["source", "target"]
) -> None:
    """Throttling is never about what the user wrote, so it does not end a plan as wrong usage."""
    cloud = play(named("scality"))
    busy = refused(503, "SlowDown", "Please reduce your request rate.")
    cloud.add(Fault(match=on(Operation.LIST, Operation.HEAD), action=busy, times=3))
    source, target = (lakes.place(azure=end != here) for here in ("source", "target"))
    lakes.fill(source)
    done = lakes.move(source, target, cloud, at_cloud=end)
    assert (done["outcomes"], done["reconciled"]) == ({"TRANSFERRED": len(LAKE)}, True)


def test_tags_that_a_server_drops_without_a_word_are_refused_or_counted(
    lakes: Lakes, rclone_s3: S3Server
) -> None:
    """`rclone serve s3` is a real one: it answers 200 to a write with tags, and has none."""
    client = rclone_s3.client()
    client.create_bucket(Bucket="tagless")
    client.close()
    source = lakes.place(azure=True)
    with lakes.azurite.client() as service:
        container = service.get_container_client(source.rpartition("/")[2])
        container.upload_blob("tagged", b"x", tags=TAGS)
        container.upload_blob("plain", b"y")
    target = {"url": "s3://tagless", "endpoint": rclone_s3.endpoint}
    refused = lakes.run({"url": source}, target, exit_code=1)
    assert (refused["outcomes"], refused["causes"]) == (
        {"TRANSFERRED": 1, "FAILED": 1},
        {"attributes_refused": 1},
    )
    assert "run.unfit_tags" in refused["failures"][0]["message"]
    left = lakes.run({"url": source}, target, run={"unfit_tags": "leave"})
    assert (left["changes"], left["reconciled"]) == ({"tags_left": 1}, True)
