"""What is observed of a run: what clients received, and the contents of Temporal, the database and the storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from contracts.operations import OperationKind, OperationState, OperationStatus

Record = dict[str, Any]
"""A row of a table, or the input of a workflow."""


@dataclass(frozen=True)
class Acknowledged:
    """An operation that a mutation returned; ``key`` is the idempotency key of the client."""

    operation_id: str
    key: str | None = None


@dataclass(frozen=True)
class ReceivedState:
    """One state that a subscriber received; ``position`` is the content of its cursor."""

    status: str
    position: tuple[int | bool, ...]

    @property
    def is_end(self) -> bool:
        return OperationStatus(self.status).is_closed


@dataclass
class FollowedOperation:
    """The states of one operation that one client received, over one or more connections.

    ``complete`` is whether the server completed the subscription; ``cursor`` is the last cursor received.
    """

    operation_id: str
    states: list[ReceivedState] = field(default_factory=list)
    complete: bool = False
    cursor: str | None = None
    connections: int = 0


@dataclass(frozen=True)
class DisplayedId:
    """The id of an object that the API returned while the session was in this tenant."""

    object_id: str
    tenant_id: str


@dataclass(frozen=True)
class TokenCheck:
    """The tenant of a token's session at the end of the run; None if the token was not valid."""

    token_hash: str
    tenant_id: str | None


@dataclass
class ClientHistory:
    """Everything that one client received."""

    user_id: str
    acknowledged: list[Acknowledged] = field(default_factory=list)
    followed: list[FollowedOperation] = field(default_factory=list)
    seen: list[DisplayedId] = field(default_factory=list)
    tokens: list[TokenCheck] = field(default_factory=list)


@dataclass(frozen=True)
class ExecutedOperation:
    """An operation in Temporal. ``closed_as`` is derived from the status of the workflow; None while it runs."""

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
class StoredObject:
    """The size and SHA-256 checksum of an object in the storage."""

    size: int
    checksum: str


@dataclass(frozen=True)
class Observations:
    """Everything that is observed: rows by table, stored objects by key, and the Message-IDs of sent e-mail."""

    histories: tuple[ClientHistory, ...]
    operations: tuple[ExecutedOperation, ...]
    tables: dict[str, list[Record]]
    objects: dict[str, StoredObject]
    email_ids: tuple[str, ...] = ()

    def rows(self, table: str, **columns: object) -> list[Record]:
        return [row for row in self.tables.get(table, ()) if all(row[name] == value for name, value in columns.items())]

    def of_kind(self, kind: OperationKind, *, completed: bool) -> Iterator[ExecutedOperation]:
        """Yield the closed operations of the kind that did, or did not, complete."""
        for operation in self.operations:
            if operation.kind is kind and operation.closed_as is not None and operation.completed is completed:
                yield operation

    @property
    def sessions(self) -> dict[str, Record]:
        """The sessions by the hash of their token."""
        return {row["token_hash"]: row for row in self.rows("auth_session")}


def is_live(session: Record) -> bool:
    """Whether the session is valid by its row."""
    return bool(session["is_active"]) and session["ended_at"] is None
