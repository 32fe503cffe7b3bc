"""A dry run between services: nothing is written, and the plan afterwards says the same."""

from __future__ import annotations

import json
from collections.abc import Callable

from noria.benchmarks.servers.dataset import ObjectSpec
from tests.support.moves import Move


def test_azure_to_s3(make_move: Callable[..., Move]) -> None:
    specs = [
        ObjectSpec(key=f"d/{number}", size=100 * number, content_type="text/plain")
        for number in range(20)
    ]
    specs.append(ObjectSpec(key="two//slashes", size=7, content_type="text/plain"))
    move = make_move(specs)
    dry = move.copy("--dry-run", "--exclude", "/d/1")
    assert not move.job.exists()
    client = move.seaweedfs.client()
    assert "Contents" not in client.list_objects_v2(Bucket=move.bucket)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=move.bucket)
    job_file = move.job_file(filter={"exclude": ["/d/1"]})
    planned = move.noria("plan", job_file)
    facts = json.loads((move.job / "manifest/manifest.json").read_text())
    assert dry["digest"] == planned["digest"] == facts["digest"]
    assert dry["sizes"] == facts["sizes"]
    assert dry["kinds"] == {"BlockBlob": len(specs) - 2}
    for same in ("objects_to_move", "bytes_to_move", "left_out", "passed_over", "attributes"):
        assert dry[same] == planned[same], same
    assert dry["left_out"] == {"name_merged": 1}
    assert dry["passed_over"] == {"filtered_name": 1}
