"""Variables as they are meant: mounted secrets, env files and copied text put things round them."""

from __future__ import annotations

import pytest

from noria.manifests.errors import ConfigurationError
from noria.workers.http.environment import read_secret, read_variable


@pytest.mark.parametrize(
    "value",
    [
        "word",
        "word\n",
        "word\r\n",
        " \tword ",
        '"word"',
        "'word'\n",
        "\ufeffword",
        "\xa0word\u200b",
    ],
)
def test_nothing_round_a_value_is_part_of_it(value: str) -> None:
    assert read_secret({"A": value}, "A") == "word"


def test_the_first_that_says_something() -> None:
    environment = {"A": " \n", "B": '""', "C": "c", "D": "d"}
    assert read_variable(environment, "A", "B", "C", "D") == "c"
    assert read_variable(environment, "A", "X") is None


@pytest.mark.parametrize("value", ["hunter2\nhunter3", "hunter2 x", "hunter2é", "hunter2\udcff"])
def test_what_no_secret_has_in_it_is_refused_by_name(value: str) -> None:
    with pytest.raises(ConfigurationError, match="AZURE_STORAGE_KEY") as caught:
        read_secret({"AZURE_STORAGE_KEY": value}, "AZURE_STORAGE_KEY")
    assert "hunter2" not in caught.value.message
    assert caught.value.message.count("\n") == 0
