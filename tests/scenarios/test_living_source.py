"""A source that is used all the time, until it is frozen; and a target that is used after that.

Passes, cutover and roll-back run as real processes and are killed at random moments. At the cutover
and after the roll-back both sides have to be what their users wrote, byte for byte, and no more.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from noria.benchmarks.servers import Azurite, S3Server
from tests.support.living import (
    Commands,
    PlainBucket,
    PlainContainer,
    PlainFolder,
    PlainStore,
    User,
    busy,
    expect_equal,
    repeat_until,
)

SEED = int(os.environ.get("NORIA_LIVING_SEED", "18"))
"""Another one plays other deeds and other kills."""
OBJECTS = 120
PART = 8 << 20
LARGE = PART + 70_000
"""Bytes of an object of two parts."""


@dataclass(slots=True)
class LivingMigration:
    """A migration, its two ends, who uses them, and how commands are run on it."""

    job: Path
    source: PlainStore
    target: PlainStore
    commands: Commands
    dice: random.Random
    seed: int
    large_bytes: int
    files: int = field(default=0)

    def folder(self) -> Path:
        self.files += 1
        made = self.job.with_name(f"flags-{self.files}")
        made.mkdir()
        return made

    def moved(self, *arguments: str | Path) -> bool:
        """Whether a pass has ended. What changed beneath it is for the next one."""
        code, said = self.commands.run(*arguments)
        assert code in (0, 1), self.commands.said[-1]
        return bool(said["complete"])

    def succeeded(self, *arguments: str | Path) -> bool:
        code, _ = self.commands.run(*arguments)
        assert code in (0, 1), self.commands.said[-1]
        return code == 0

    def copy(self, user: User, *, passes: int, kills: int) -> None:
        """Passes over a source that lives, then a cutover that makes it stop; each is killed."""
        run = ("run", self.job.with_suffix(".toml"))
        sync = ("sync", self.job, "--yes")
        first = not (self.job / "manifest").exists()
        flags = self.folder()
        with busy(user, flags) as freeze:
            for number in range(passes):
                command = run if first and number == 0 else sync
                self.commands.run_killed(*command, times=kills)
                deeds = user.deeds
                repeat_until(partial(self.moved, *command), "a pass")
                assert user.deeds > deeds, "the source was used meanwhile"
            switched = flags / "switched"
            commands = ("--freeze-command", freeze, "--switch-command", f"touch {switched}")
            cutover = ("cutover", self.job, *commands, "--approve-as", "A. Martin")
            self.commands.run_killed(*cutover, times=kills + 1, within_seconds=3.0)
            repeat_until(partial(self.succeeded, *cutover), "the cutover")
        assert switched.exists()
        expect_equal(self.source, user.holds, "the source is what its user wrote")
        expect_equal(self.target, user.holds, "the target at the cutover")

    def way_back(self, user: User, *, kills: int) -> None:
        """The target is used, then what changed goes back; killed too."""
        for _ in range(OBJECTS // 2):
            user.act()
        back = ("rollback", self.job, "--deletions", "mirror", "--yes")
        self.commands.run_killed(*back, times=kills, is_over=self._is_rolled_back)
        if not self._is_rolled_back():
            repeat_until(partial(self.succeeded, *back), "the roll-back")
        expect_equal(self.target, user.holds, "the target is what its user wrote")
        expect_equal(self.source, user.holds, "the source after the roll-back")

    def _is_rolled_back(self) -> bool:
        records = sorted((self.job / "history").glob("*.json"))
        return bool(json.loads(records[-1].read_text())["kind"] == "rolled_back")


NewLivingMigration = Callable[..., LivingMigration]


@pytest.fixture
def new_world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewLivingMigration]:
    """new_world("folders" or "azure-s3", seed); prints the seed and what was said if it fails."""
    made: list[LivingMigration] = []
    with ExitStack() as stack:

        def make(way: str, seed: int) -> LivingMigration:
            ends: Mapping[str, Any]
            if way == "folders":
                ends = _folders(tmp_path)
            else:
                azurite: Azurite = request.getfixturevalue("azurite")
                seaweedfs: S3Server = request.getfixturevalue("seaweedfs")
                container: str = request.getfixturevalue("azure_container")
                bucket: str = request.getfixturevalue("s3_bucket")
                service = stack.enter_context(azurite.client())
                client = stack.enter_context(closing(seaweedfs.client()))
                ends = {
                    "source": PlainContainer(service.get_container_client(container)),
                    "target": PlainBucket(client, bucket),
                    "urls": (f"az://{azurite.account}/{container}", f"s3://{bucket}"),
                    "environment": {**azurite.env(), **seaweedfs.env()},
                    "large_bytes": LARGE,
                }
            dice = random.Random(seed)
            world = LivingMigration(
                job=tmp_path / "job",
                source=ends["source"],
                target=ends["target"],
                commands=Commands({**os.environ, **ends["environment"]}, dice),
                dice=dice,
                seed=seed,
                large_bytes=ends["large_bytes"],
            )
            _write_job(world.job.with_suffix(".toml"), *ends["urls"])
            made.append(world)
            return world

        yield make
    for world in made:
        print(f"seed {world.seed}, {world.commands.kills} kills")
        print("\n".join(world.commands.said[-6:]))


def _folders(place: Path) -> Mapping[str, Any]:
    for name in ("source", "target"):
        (place / name).mkdir()
    return {
        "source": PlainFolder(place / "source"),
        "target": PlainFolder(place / "target"),
        "urls": ((place / "source").as_uri(), (place / "target").as_uri()),
        "environment": {},
        "large_bytes": 100_000,
    }


def _write_job(path: Path, source: str, target: str) -> None:
    path.write_text(
        f"""
        [source]
        url = "{source}"
        [target]
        url = "{target}"
        [plan]
        part_bytes = {PART}
        shard_objects = 20
        [run]
        workers = 2
        journal_seconds = 0.1
        metrics_address = "off"
        [sync]
        deletions = "mirror"
        deletions_max = 1.0
        """
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("way", "kills", "rounds"), [("folders", 1, 2), ("azure-s3", 2, 1)], ids=["folders", "azure-s3"]
)
def test_whatever_is_killed_both_sides_are_exact_at_the_cutover_and_after_the_roll_back(
    new_world: NewLivingMigration, way: str, kills: int, rounds: int
) -> None:
    """Twice in a row between folders: what came back is where the next passes begin."""
    world = new_world(way, seed=SEED)
    user = User(world.source, random.Random(world.seed), world.large_bytes)
    user.fill(OBJECTS)
    for number in range(rounds):
        world.copy(user, passes=1 if number else 3, kills=kills)
        behind = User(world.target, random.Random(number), world.large_bytes, dict(user.holds))
        world.way_back(behind, kills=kills)
        user.holds = behind.holds
    assert world.commands.kills > kills
