"""The frozen base of every contract, and the recipe for ids."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

_ID = re.compile(r"([a-z]{3})_[0-9a-f]{32}")


class Contract(BaseModel):
    """A value that crosses a process border: immutable, and unknown fields are ignored so that releases can differ."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    if not TYPE_CHECKING:  # type checkers would take any attribute for one that is there

        def __getattr__(self, name: str) -> NoReturn:
            # GraphQL asks each value whether it can be awaited, and pydantic's own answer costs several times as much.
            raise AttributeError(name)


def new_id(prefix: str) -> str:
    """A random id that names its type, for instance ``usr_8c2f...`` (prefix, underscore, 32 hex digits)."""
    return f"{prefix}_{uuid4().hex}"


def is_id(text: str, prefix: str) -> bool:
    """Could ``new_id(prefix)`` have made this? Ask before a client's words reach a database that may choke on them."""
    match = _ID.fullmatch(text)
    return match is not None and match[1] == prefix


class Ids(Contract):
    """Things asked for together."""

    ids: tuple[str, ...] = Field(max_length=500)


def utc_now() -> datetime:
    """The present moment, in UTC. Never call it in a workflow: there it is ``workflow.now()``."""
    return datetime.now(UTC)


def derived_id(prefix: str, *parts: str) -> str:
    """Return an id derived from other ids: the same parts give the same id (SHA-256)."""
    return f"{prefix}_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"
