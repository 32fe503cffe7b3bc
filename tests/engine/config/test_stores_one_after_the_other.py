"""The store of one dataset goes on with the connections that the last one left."""

from __future__ import annotations

from contextlib import suppress

import pytest

from noria.engine.config.jobfile import EndConfig
from noria.engine.config.stores import open_end
from noria.manifests.errors import NoriaError
from noria.workers.http.resting import RestingConnections
from tests.support.counting_host import host_that_counts

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AZURE_STORAGE_KEY": "c2VjcmV0",
}


@pytest.mark.parametrize("urls", [("s3://one", "s3://two"), ("az://acc/one", "az://acc/two")])
def test_stores_of_one_host_share_connections_once_they_are_closed(
    urls: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    resting = RestingConnections()
    with host_that_counts() as (host, served):
        for url in urls:
            end = EndConfig(url=url, endpoint=host)
            store = open_end(end, resting=resting)
            with suppress(NoriaError):  # what it answers is no listing
                store.check_access("")
            store.close()
        assert len(served) == 2
        assert served[0] == served[1]
        resting.close()
