"""Reference cycles of closed sockets are collected although automatic garbage collection is rare."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway.server.gc_tuning import CycleCollector


class Cycle:
    """An object that refers to itself, which only the garbage collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def automatic_gc_disabled() -> Iterator[None]:
    """Disable automatic garbage collection during the test."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("closed", "still_open", "is_cleared"), [(1001, 0, True), (999, 0, False), (1500, 2000, False)]
)
def test_collects_when_as_many_sockets_have_closed_as_are_open(
    automatic_gc_disabled: None, closed: int, still_open: int, is_cleared: bool
) -> None:
    collector = CycleCollector()
    cycle = Cycle()
    reference = weakref.ref(cycle)
    del cycle
    for _ in range(closed):
        collector.count_closed()
    collector.collect_if_due(still_open)
    assert (reference() is None) is is_cleared


def test_postpones_collection_under_load_but_not_for_ever(automatic_gc_disabled: None) -> None:
    cpu_seconds = 0.0
    collector = CycleCollector(lambda: cpu_seconds)
    cycle = Cycle()
    reference = weakref.ref(cycle)
    del cycle
    for _ in range(2000):
        collector.count_closed()
    for _ in range(60):
        cpu_seconds += 0.4
        collector.collect_if_due(0)
        assert reference() is not None
    cpu_seconds += 0.4
    collector.collect_if_due(0)
    assert reference() is None


def test_collects_when_the_process_is_idle(automatic_gc_disabled: None) -> None:
    cpu_seconds = 0.0
    collector = CycleCollector(lambda: cpu_seconds)
    cycle = Cycle()
    reference = weakref.ref(cycle)
    del cycle
    for _ in range(2000):
        collector.count_closed()
    cpu_seconds += 0.4
    collector.collect_if_due(0)
    cpu_seconds += 0.05
    collector.collect_if_due(0)
    assert reference() is None
