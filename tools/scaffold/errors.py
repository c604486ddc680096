"""The error of the generators."""

from __future__ import annotations


class ScaffoldError(Exception):
    """Nothing is generated; the message states the reason in one sentence."""
