"""What closed sockets leave behind is found, although Python looks for garbage rarely."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.server.gc_tuning import CycleCollector


class Knot:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def nobody_looks() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("closed", "still_open", "is_cleared"), [(1001, 0, True), (999, 0, False), (1500, 2000, False)]
)
def test_it_is_cleared_away_once_there_is_as_much_of_it_as_in_use(
    nobody_looks: None, closed: int, still_open: int, is_cleared: bool
) -> None:
    leftovers = CycleCollector()
    knot = Knot()
    left = weakref.ref(knot)
    del knot
    for _ in range(closed):
        leftovers.count_closed()
    leftovers.collect_if_due(still_open)
    assert (left() is None) is is_cleared


def test_it_is_put_off_while_there_is_much_to_do_but_not_for_ever(nobody_looks: None) -> None:
    worked = 0.0
    leftovers = CycleCollector(lambda: worked)
    knot = Knot()
    left = weakref.ref(knot)
    del knot
    for _ in range(2000):
        leftovers.count_closed()
    for _ in range(60):
        worked += 0.4
        leftovers.collect_if_due(0)
        assert left() is not None
    worked += 0.4
    leftovers.collect_if_due(0)
    assert left() is None


def test_it_is_cleared_away_once_there_is_little_to_do(nobody_looks: None) -> None:
    worked = 0.0
    leftovers = CycleCollector(lambda: worked)
    knot = Knot()
    left = weakref.ref(knot)
    del knot
    for _ in range(2000):
        leftovers.count_closed()
    worked += 0.4
    leftovers.collect_if_due(0)
    worked += 0.05
    leftovers.collect_if_due(0)
    assert left() is None
