"""Command and environment of a process in a deployment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    command: tuple[str, ...]
    environment: dict[str, str]
