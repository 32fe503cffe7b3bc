"""Jobs whose list of objects comes from a report or a key list rather than from a live listing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from azure.storage.blob import BlobServiceClient

from tests.support.inventory_reports import csv_text, write_azure_report
from tests.support.moves import Move, plain

FIELDS = ("Name", "Creation-Time", "Last-Modified", "ETag", "Content-Length", "BlobType")


def test_an_azure_blob_inventory_in_the_container_itself(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    specs = [plain(f"data/{n:03},{n}", 100 + n) for n in range(50)]
    move = make_move(specs)
    report = tmp_path / "report"
    with BlobServiceClient.from_connection_string(move.azurite.connection_string) as service:
        container = service.get_container_client(move.container)
        rows = [
            {
                "Name": f"{move.container}/{blob.name}",
                "Creation-Time": "2026-01-02T03:04:05Z",
                "Last-Modified": "2026-01-02T03:04:05Z",
                "ETag": blob.etag,
                "Content-Length": str(blob.size),
                "BlobType": "BlockBlob",
            }
            for blob in container.list_blobs()
        ]
        manifest = write_azure_report(
            report,
            csv_text(FIELDS, rows),
            objects=len(rows),
            total=sum(spec.size for spec in specs),
            changes={"endpoint": f"https://{move.azurite.account}.blob.core.windows.net"},
        )
        for path in report.rglob("*"):
            if path.is_file():
                container.upload_blob(f"reports/{path.relative_to(report)}", path.read_bytes())
        (container.get_blob_client(specs[7].key)).delete_blob()
        container.upload_blob(specs[8].key, b"newer", overwrite=True)
    inventory = {"kind": "azure-inventory", "url": f"{move.source}/reports/{manifest}"}
    job_file = move.job_file(source={"url": f"{move.source}/data"}, inventory=inventory)
    planned = move.noria("plan", job_file)
    assert planned["objects"] == 50
    done = move.noria("run", job_file, "--show-keys", exit_code=1)
    # Azurite answers 412 where Azure answers 404, so one that is gone looks changed here.
    assert done["outcomes"] == {"TRANSFERRED": 48, "SOURCE_CHANGED": 2}
    assert {failure["name"] for failure in done["failures"]} == {
        specs[7].key.removeprefix("data/"),
        specs[8].key.removeprefix("data/"),
    }
    assert done["reconciled"] is True


def test_a_list_of_keys(make_move: Callable[..., Move], tmp_path: Path) -> None:
    move = make_move([plain(f"k{n}", 10 + n) for n in range(20)])
    keys = tmp_path / "keys.txt"
    keys.write_text("k3\nk5\nk5\nno-such-key\nk7\n")
    inventory = {"kind": "keys", "url": f"file://{keys}"}
    done = move.noria("run", move.job_file(inventory=inventory), exit_code=1)
    assert done["outcomes"] == {"TRANSFERRED": 3, "SOURCE_MISSING": 1}
    client = move.seaweedfs.client()
    listed = client.list_objects_v2(Bucket=move.bucket)["Contents"]
    client.close()
    assert [(item["Key"], item["Size"]) for item in listed] == [("k3", 13), ("k5", 15), ("k7", 17)]


def test_a_report_that_cannot_be_trusted_is_refused_with_file_and_line(
    make_move: Callable[..., Move], tmp_path: Path
) -> None:
    move = make_move([plain("data/a", 1)])
    rows = [
        {"Name": f"{move.container}/data/a", "Content-Length": "1"},
        {"Name": f"{move.container}/data/b", "Content-Length": "many"},
    ]
    report = tmp_path / "report"
    manifest = write_azure_report(
        report,
        csv_text(("Name", "Content-Length"), rows),
        objects=2,
        total=1,
        changes={"endpoint": f"https://{move.azurite.account}.blob.core.windows.net"},
    )
    (report / "all").mkdir()
    inventory = {"kind": "azure-inventory", "url": f"file://{report / manifest}"}
    process = move.start("plan", move.job_file(inventory=inventory))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "line 3" in err
    assert not (move.job / "manifest").exists()


def test_names_and_secrets_stay_out_of_all_but_manifest_and_receipts(
    make_move: Callable[..., Move],
) -> None:
    canary = "patient-4711"
    move = make_move([plain(f"{canary}/{n}", 50) for n in range(30)])
    process = move.start(
        "copy", move.source, move.target, "--job", move.job, "--metrics-address", "off"
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    secrets = (move.azurite.key, move.seaweedfs.secret_key)
    texts = {"standard output": out, "standard error": err}
    for path in move.job.rglob("*"):
        if path.is_file():
            texts[str(path.relative_to(move.job))] = path.read_bytes().decode("latin-1")
    for name, text in texts.items():
        assert not any(secret in text for secret in secrets), name
        if not name.startswith(("manifest/part-", "results/")):
            assert canary not in text, name
