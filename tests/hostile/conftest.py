from __future__ import annotations

import pytest

from tests.support.finished_jobs import FinishedJob, finish_job


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedJob:
    """A job at its end. Tests damage copies of it."""
    return finish_job(tmp_path_factory.mktemp("finished"))
