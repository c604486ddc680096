"""The results of benchmarks: measured values with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the table. ``ok`` is whether the target is met; None without a target."""

    what: str
    target: str
    measured: str
    ok: bool | None
    detail: str = ""


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile by nearest rank. ``values`` need not be sorted and must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def at_most(what: str, value: float, limit: float, *, unit: str = "", detail: str = "") -> Figure:
    return Figure(what, f"≤ {limit:g}{unit}", f"{value:.3g}{unit}", value <= limit, detail)


def at_least(what: str, value: float, limit: float, *, unit: str = "", detail: str = "") -> Figure:
    return Figure(what, f"≥ {limit:g}{unit}", f"{value:.3g}{unit}", value >= limit, detail)
