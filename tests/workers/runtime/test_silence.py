"""Who is held while a store answers nobody, who tries, and what frees them."""

from __future__ import annotations

import threading

import pytest

from noria.workers.runtime import silence
from noria.workers.runtime.silence import MANY_KEYS, TRY_SECONDS, Silence, Silences

NEVER = threading.Event()


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; real ones are short."""
    made: list[float] = []

    def pause(seconds: float, stopping: threading.Event) -> None:
        made.append(seconds)
        stopping.wait(0.01)

    monkeypatch.setattr(silence, "pause", pause)
    return made


def silent(clock: Hands, keys: int = 1) -> tuple[Silences, Silence]:
    silences = Silences("target", clock=clock)
    for number in range(keys):
        silences.note_failure("put", f"k{number}", clock.now, 0.0)
    found = silences.of("put")
    assert found is not None
    return silences, found


def test_an_answer_ends_the_silence_of_its_operation_alone() -> None:
    silences, found = silent(Hands())
    silences.note_answer("get")
    assert silences.of("put") is found
    silences.note_answer("put")
    assert silences.of("put") is None
    assert found.over


def test_so_many_objects_are_not_each_at_fault() -> None:
    assert not silent(Hands(), MANY_KEYS - 1)[1].is_of_many
    silences, found = silent(Hands(), MANY_KEYS)
    assert found.is_of_many
    for _ in range(100):
        silences.note_failure("put", "again", 100.0, 0.0)
    assert len(found.keys) == MANY_KEYS


def test_the_same_object_over_and_over_is_one() -> None:
    clock = Hands()
    silences, found = silent(clock)
    for _ in range(100):
        silences.note_failure("put", "k0", clock.now, 0.0)
    assert not found.is_of_many


def test_one_at_a_time_tries(pauses: list[float]) -> None:
    clock = Hands()
    silences, found = silent(clock)
    clock.now += TRY_SECONDS
    stopping = threading.Event()
    assert silences.hold("put", found, stopping, 1000.0)
    assert pauses == []  # its turn

    ended = threading.Thread(target=silences.hold, args=("put", found, stopping, 1000.0))
    ended.start()
    ended.join(0.2)
    assert ended.is_alive()  # another is trying
    silences.note_answer("put")
    ended.join(10)
    assert not ended.is_alive()
    assert pauses


def test_a_pause_that_the_store_asks_for_is_kept() -> None:
    clock = Hands()
    silences = Silences(clock=clock)
    silences.note_failure("put", "k", clock.now, 30.0)
    found = silences.of("put")
    assert found is not None
    assert found.next_try_at == clock.now + 30.0


@pytest.mark.usefixtures("pauses")
def test_it_lasts_as_long_as_it_may() -> None:
    clock = Hands()
    silences, found = silent(clock)
    clock.now += 59.0
    assert silences.hold("put", found, NEVER, 60.0)
    assert 58.0 < silences.seconds < 60.0
    clock.now += 1.0
    assert not silences.hold("put", found, NEVER, 60.0)


def test_how_long_it_is_held_is_shown_while_it_is() -> None:
    clock = Hands()
    silences, found = silent(clock)
    clock.now += TRY_SECONDS
    assert silences.seconds == 0.0
    silences.hold("put", found, NEVER, 60.0)
    assert silences.seconds == TRY_SECONDS
    assert silences.was_held_after(100.0)
    silences.note_answer("put")
    assert silences.seconds == 0.0
    assert not silences.was_held_after(clock.now)
