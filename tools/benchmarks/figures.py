"""What a measurement says: figures beside their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row of the table. ``ok`` is None where there is no target to meet."""

    what: str
    target: str
    measured: str
    ok: bool | None
    detail: str = ""


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank; ``values`` need not be sorted, and must not be empty."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def at_most(what: str, value: float, most: float, *, unit: str = "", detail: str = "") -> Figure:
    return Figure(what, f"≤ {most:g}{unit}", f"{value:.3g}{unit}", value <= most, detail)


def at_least(what: str, value: float, least: float, *, unit: str = "", detail: str = "") -> Figure:
    return Figure(what, f"≥ {least:g}{unit}", f"{value:.3g}{unit}", value >= least, detail)
