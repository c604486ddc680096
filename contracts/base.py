"""The frozen base of every contract, and the recipe for ids."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """A value that crosses a process border: immutable, and unknown fields are ignored so that releases can differ."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def new_id(prefix: str) -> str:
    """A random id that names its type, for instance ``usr_8c2f...`` (prefix, underscore, 32 hex digits)."""
    return f"{prefix}_{uuid4().hex}"


def utc_now() -> datetime:
    """The present moment, in UTC. Never call it in a workflow: there it is ``workflow.now()``."""
    return datetime.now(UTC)
