"""What is said of a deadline, by what is left and how fast it goes."""

from __future__ import annotations

import pytest

from noria.engine.config.jobfile import RunConfig
from noria.engine.deadline import DeadlineState, forecast


@pytest.mark.parametrize(
    ("now", "eta_seconds", "ended", "state", "spare_seconds"),
    [
        (1000.0, 100.0, False, DeadlineState.AHEAD, 900.0),
        (1000.0, 899.0, False, DeadlineState.AHEAD, 101.0),
        (1000.0, 901.0, False, DeadlineState.NARROW, 99.0),
        (1000.0, 1000.0, False, DeadlineState.NARROW, 0.0),
        (1000.0, 1001.0, False, DeadlineState.LATE, -1.0),
        (1000.0, None, False, DeadlineState.UNKNOWN, None),
        (2001.0, None, False, DeadlineState.MISSED, None),
        (2001.0, 10.0, False, DeadlineState.MISSED, -11.0),
        (2000.0, None, True, DeadlineState.MET, 0.0),
        (2001.0, None, True, DeadlineState.MISSED, -1.0),
    ],
)
def test_a_forecast(
    now: float,
    eta_seconds: float | None,
    ended: bool,
    state: DeadlineState,
    spare_seconds: float | None,
) -> None:
    found = forecast(2000.0, now=now, eta_seconds=eta_seconds, ended=ended)
    assert (found.state, found.spare_seconds) == (state, spare_seconds)


@pytest.mark.parametrize(
    "text", ["2026-12-31T06:00:00+01:00", "2026-12-31 05:00:00Z", "20261231T050000+0000"]
)
def test_a_deadline_is_a_time_with_its_zone(text: str) -> None:
    config = RunConfig.model_validate({"deadline": text})
    assert config.deadline_seconds == 1798693200.0
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again.deadline_seconds == 1798693200.0


def test_a_deadline_as_toml_writes_times() -> None:
    import tomllib

    values = tomllib.loads("deadline = 2026-12-31T06:00:00+01:00")
    assert RunConfig.model_validate(values).deadline_seconds == 1798693200.0


@pytest.mark.parametrize("value", ["2026-12-31T06:00:00", "2026-12-31", "tomorrow", 1798693200, ""])
def test_a_deadline_without_a_zone_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a time with its zone"):
        RunConfig.model_validate({"deadline": value})


def test_there_need_not_be_one() -> None:
    assert RunConfig().deadline_seconds is None
