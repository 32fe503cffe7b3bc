"""F1 to F9: what goes wrong before the first byte. A plan is whole and right, or there is none."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pytest

from noria.manifests.errors import InventoryError
from noria.manifests.manifest.freeze import freeze
from noria.manifests.manifest.reader import Manifest, open_manifest
from noria.manifests.model import Reason
from noria.manifests.plan.providers import MIB, TB
from tests.faults.cells import Scene, cell
from tests.support.inventory_reports import (
    AZURE_FILE,
    AZURE_MANIFEST,
    open_azure,
    write_azure_rows,
)
from tests.support.moves import expect_no_worker_left, plain
from tests.support.processes import descendants
from tests.support.rows import inventory, plan
from tests.support.small_disk import SmallDisk


def report_of(scene: Scene, **changes: object) -> Path:
    """A Blob Inventory report of some drawn rows."""
    root = scene.folder / "report"
    shutil.rmtree(root, ignore_errors=True)
    rows = [
        {"Name": f"c1/{n}", "Content-Length": str(scene.dice.randrange(1 << 40))}
        for n in range(scene.dice.randint(2, 50))
    ]
    write_azure_rows(root, rows, changes=changes)
    return root


def expect_no_plan(scene: Scene, root: Path, *, says: str | None = None) -> None:
    folder = scene.folder / "manifest"
    with pytest.raises(InventoryError, match=says):
        freeze(open_azure(root).batches(), folder, options=plan())
    assert not folder.exists(), "I2: no plan rather than half a one"
    scene.evidence.faults += 1
    scene.evidence.invariants += 2


@cell("F1", "the inventory's checksum is another one")
def wrong_checksum(scene: Scene) -> None:
    root = report_of(scene)
    checksum = (root / AZURE_MANIFEST).with_suffix(".checksum")
    said = list(checksum.read_text())
    place = scene.dice.randrange(len(said))
    said[place] = "0" if said[place] != "0" else "1"
    checksum.write_text("".join(said))
    expect_no_plan(scene, root)


@cell("F2", "the inventory is pending, partial or failed")
def unfinished_inventory(scene: Scene) -> None:
    for status in ("Pending", "PartiallySucceeded", "Failed"):
        expect_no_plan(scene, report_of(scene, status=status), says=status)


@cell("F3", "a data file of the inventory is missing or cut short")
def damaged_data_file(scene: Scene) -> None:
    root = report_of(scene)
    file = root / AZURE_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[: scene.dice.randrange(len(whole))])
    expect_no_plan(scene, root, says=file.name)
    file.unlink()
    expect_no_plan(scene, root, says=file.name)


@cell("F4", "rows come twice and in any order")
def doubled_rows(scene: Scene) -> None:
    rows = [{"key": f"k{n:04}", "size": scene.dice.randrange(1000)} for n in range(500)]
    plain_one = frozen(scene, [inventory(rows)], "once")
    doubled = [*rows, *scene.dice.sample(rows, 100)]
    scene.dice.shuffle(doubled)
    cuts = sorted(scene.dice.sample(range(1, len(doubled)), 5))
    batches = [
        inventory(doubled[first:end])
        for first, end in zip([0, *cuts], [*cuts, len(doubled)], strict=True)
    ]
    shuffled = frozen(scene, batches, "doubled")
    assert (shuffled.digest, shuffled.objects) == (plain_one.digest, 500), "I2"
    scene.evidence.faults += 100
    scene.evidence.invariants += 1


def frozen(
    scene: Scene, batches: list[pa.RecordBatch], name: str, provider: str = "aws"
) -> Manifest:
    return freeze(batches, scene.folder / name, options=plan(provider))


@cell("F5", "names that the target would merge or refuse", whole=True)
def awkward_names(scene: Scene) -> None:
    # The SDK that fills the source cannot send names that begin with a slash or hold `..`.
    keys = ["a//b", "a/b", "z\\w", "z/w", "dot.", "slash/", "e\u0301", "\u00e9", "x" * 300]
    scene.dice.shuffle(keys)
    specs = [plain(key, scene.dice.randrange(1, 2000)) for key in keys]
    proxied = scene.move(specs, plan={"names": "refuse"})
    done = proxied.run(exit_code=1)
    outcomes = done["outcomes"]
    with scene.stage.azurite.client() as service:
        blobs = service.get_container_client(proxied.move.container).list_blobs()
        held = {blob.name: blob.size for blob in blobs}
    assert sum(outcomes.values()) == len(held), f"I2: {outcomes}"
    assert set(outcomes) <= {"TRANSFERRED", "SKIPPED"}, f"{outcomes}: {done['causes']}"
    client = scene.stage.seaweedfs.client()
    listed = client.list_objects_v2(Bucket=proxied.move.bucket).get("Contents", ())
    client.close()
    assert len(listed) == outcomes["TRANSFERRED"], "I4: nothing merged"
    assert all(held[item["Key"]] == item["Size"] for item in listed), "I1"
    assert done["reconciled"] is True
    scene.evidence.faults += outcomes["SKIPPED"]
    scene.evidence.moved_bytes += proxied.moved_bytes()
    scene.evidence.invariants += 4


@cell("F6", "objects of too many parts, or too large")
def too_large(scene: Scene) -> None:
    many = scene.dice.randrange(70, 4000) * 1000 * MIB
    rows = [
        {"key": "many-parts", "size": many},
        {"key": "too-large", "size": 5 * TB + scene.dice.randrange(1, TB)},
    ]
    manifest = frozen(scene, [inventory(rows)], "large", "scaleway")
    fit = manifest.fit(many)
    assert fit.parts <= 1000
    assert fit.part_bytes * fit.parts >= many
    assert manifest.facts["reasons"] == {
        Reason.TOO_LARGE.value: {"objects": 1, "bytes": rows[1]["size"]}
    }
    scene.evidence.faults += 2
    scene.evidence.invariants += 2


@cell("F7", "folder stubs, archived objects and customers' keys")
def special_objects(scene: Scene) -> None:
    kinds: dict[Reason, dict[str, object]] = {
        Reason.FOLDER_STUB: {"is_folder": True},
        Reason.ARCHIVED: {"tier": "Archive"},
        Reason.CUSTOMER_KEY: {"customer_key_sha256": "abc"},
        Reason.NOT_CURRENT: {"not_current": "snapshot"},
    }
    counts = {reason: scene.dice.randint(1, 9) for reason in kinds}
    rows = [
        {"key": f"{reason}-{n}", "size": 0 if reason is Reason.FOLDER_STUB else n, **about}
        for reason, about in kinds.items()
        for n in range(counts[reason])
    ]
    scene.dice.shuffle(rows)
    manifest = frozen(scene, [inventory([*rows, {"key": "plain", "size": 1}])], "special")
    found = {reason: about["objects"] for reason, about in manifest.facts["reasons"].items()}
    assert found == {reason.value: count for reason, count in counts.items()}, "I2"
    assert manifest.objects_to_move == 1
    scene.evidence.faults += len(rows)
    scene.evidence.invariants += 2


@cell("F8", "the driver is killed while it plans", whole=True)
def killed_in_planning(scene: Scene) -> None:
    proxied = scene.move([plain(f"k{n:03}", 50 + n) for n in range(120)])
    for _ in range(2):
        process = proxied.move.start("plan", proxied.job_file)
        time.sleep(0.4 + scene.dice.random())
        family = list(descendants(process.pid))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        expect_no_worker_left(family)
        manifest = proxied.move.job / "manifest"
        if manifest.exists():
            open_manifest(manifest).verify()  # whole, or not there
    first = proxied.move.noria("plan", proxied.job_file)["digest"]
    assert proxied.move.noria("plan", proxied.job_file)["digest"] == first
    proxied.expect_all(proxied.run(), kills=2, exact=True)


@cell("F9", "the disk is full while the plan is written", whole=True)
def disk_full_in_planning(scene: Scene) -> None:
    proxied = scene.move([plain(f"k{n:04}", 100) for n in range(400)])
    disk = scene.folder / "disk"
    with SmallDisk(disk, "60k"):
        proxied.move.job = disk / "job"
        proxied.move.job_file()
        process = proxied.move.start("run", proxied.job_file, "--json")
        out, err = process.communicate(timeout=60)
        assert process.returncode in (2, 3), (out, err)
        assert "Traceback" not in err
        assert "No space left" in err + out
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        proxied.move.job_file()
        proxied.expect_all(proxied.run(), kills=1)
