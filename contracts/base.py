"""The immutable base class of all contracts, and the format of ids."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

_ID = re.compile(r"([a-z]{3})_[0-9a-f]{32}")


class Contract(BaseModel):
    """Base class of values that are sent between processes.

    Instances are immutable. Unknown fields are ignored, so that processes of different releases can communicate.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    if not TYPE_CHECKING:  # with this method type checkers would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            # graphql-core looks up ``__await__`` on each value, and pydantic's ``__getattr__`` is several times slower.
            raise AttributeError(name)


def new_id(prefix: str) -> str:
    """Return a random id with a prefix that names its type: the prefix, an underscore and 32 hexadecimal digits."""
    return f"{prefix}_{uuid4().hex}"


def is_id(text: str, prefix: str) -> bool:
    """Return whether the text has the format of ``new_id(prefix)``.

    Text that a client sent must be checked before it is used in a database query.
    """
    match = _ID.fullmatch(text)
    return match is not None and match[1] == prefix


class Ids(Contract):
    """The ids of objects that are requested together."""

    ids: tuple[str, ...] = Field(max_length=500)


def utc_now() -> datetime:
    """Return the current time in UTC. Workflows must use ``workflow.now()`` instead."""
    return datetime.now(UTC)


def derived_id(prefix: str, *parts: str) -> str:
    """Return an id that is derived from other ids by SHA-256: the same parts result in the same id."""
    return f"{prefix}_{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"
