"""What there is to judge a run by: what clients were told, and what Temporal, the tables and the storage hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from contracts.operations import OperationKind, OperationState, OperationStatus

Record = dict[str, Any]
"""A row as the database has it, or a command as a history has it."""


@dataclass(frozen=True)
class Acknowledged:
    """The answer to a mutation named this operation; ``key`` is the idempotency key that the client gave."""

    operation_id: str
    key: str | None = None


@dataclass(frozen=True)
class Told:
    """One state as a follower was told it; ``position`` is what its cursor holds."""

    status: str
    position: tuple[int | bool, ...]

    @property
    def is_end(self) -> bool:
        return OperationStatus(self.status).is_closed


@dataclass
class Following:
    """One operation as one client followed it, over however many connections; ``complete``: the server said so.
    ``cursor`` is the last that the client was told."""

    operation_id: str
    states: list[Told] = field(default_factory=list)
    complete: bool = False
    cursor: str | None = None
    connections: int = 0


@dataclass(frozen=True)
class Seen:
    """Something that a client was shown while its session was in this tenant."""

    thing_id: str
    tenant_id: str


@dataclass(frozen=True)
class Token:
    """What a token opened once all was quiet: the tenant of its session, and None where it opened nothing."""

    token_hash: str
    tenant_id: str | None


@dataclass
class History:
    """All that one client was told."""

    user_id: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    followed: list[Following] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)


@dataclass(frozen=True)
class Ran:
    """An operation as Temporal has it. ``closed_as`` is the server's own word, None while it runs."""

    id: str
    kind: OperationKind
    closed_as: OperationStatus | None
    command: Record
    state: OperationState
    tenant_ids: tuple[str, ...] = ()

    @property
    def completed(self) -> bool:
        return self.closed_as is OperationStatus.COMPLETED


@dataclass(frozen=True)
class Stored:
    size: int
    checksum: str


@dataclass(frozen=True)
class World:
    """``tables`` by their names; ``objects`` by their keys, staged ones among them; ``letters``: Message-IDs of
    all that were handed over."""

    histories: tuple[History, ...]
    operations: tuple[Ran, ...]
    tables: dict[str, list[Record]]
    objects: dict[str, Stored]
    letters: tuple[str, ...] = ()

    def rows(self, table: str, **which: object) -> list[Record]:
        return [row for row in self.tables.get(table, ()) if all(row[name] == value for name, value in which.items())]

    def of_kind(self, kind: OperationKind, *, completed: bool) -> Iterator[Ran]:
        """Those that have closed."""
        for ran in self.operations:
            if ran.kind is kind and ran.closed_as is not None and ran.completed is completed:
                yield ran

    @property
    def sessions(self) -> dict[str, Record]:
        """By the hash of their token."""
        return {row["token_hash"]: row for row in self.rows("auth_session")}


def is_live(session: Record) -> bool:
    """Whether the row says that its token opens something."""
    return bool(session["is_active"]) and session["ended_at"] is None
