"""What is said of a file that may not be read."""

import pytest

from noria.manifests.errors import SourceUnreadable
from noria.workers.stores.local.files import mapped
from noria.workers.stores.responses import Purpose


@pytest.mark.parametrize("number", [1, 13])
def test_the_next_step_is_one_for_a_file(number: int) -> None:
    with (
        pytest.raises(SourceUnreadable, match="give this user the right to read the file"),
        mapped(Purpose.READ, "a"),
    ):
        raise OSError(number, "Permission denied")
