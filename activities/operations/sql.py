"""Construction of SQL statements for SQLite and PostgreSQL with bound values, which Tortoise cannot express."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tortoise.backends.base.client import BaseDBAsyncClient

Value: TypeAlias = str | int | bool | None


@dataclass
class Statement:
    """A statement under construction: conditions joined by AND, and the values of its placeholders in order."""

    dialect: str
    text: str = ""
    conditions: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def placeholder(self, value: Value) -> str:
        """Add a value and return the placeholder that stands for it."""
        self.values.append(value)
        return f"${len(self.values)}" if self.dialect == "postgres" else "?"

    def where(self, template: str, *values: Value) -> None:
        """Add a condition; each ``{}`` in the template stands for one value."""
        self.conditions.append(template.format(*(self.placeholder(value) for value in values)))

    def where_in(self, column: str, values: Iterable[str], *, negate: bool = False) -> None:
        """Add ``column IN (values)``, which no row meets if there are no values; or its negation."""
        listed = list(values)
        if not listed:
            self.conditions.append("1 = 1" if negate else "1 = 0")
            return
        names = ", ".join(self.placeholder(value) for value in listed)
        self.conditions.append(f"{column} {'NOT IN' if negate else 'IN'} ({names})")

    async def rows(self, connection: BaseDBAsyncClient) -> list[dict[str, Any]]:
        """Execute ``text`` and return its rows by column name."""
        return await connection.execute_query_dict(self.text, list(self.values))

    @property
    def condition(self) -> str:
        return " AND ".join(self.conditions) or "1 = 1"


def dialect_of(connection: BaseDBAsyncClient) -> str:
    """Return ``postgres`` or ``sqlite``."""
    return str(connection.capabilities.dialect)


def escape_like(text: str) -> str:
    """Return the text as a pattern for LIKE with ESCAPE '!', which matches only the text itself."""
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


async def upsert(
    connection: BaseDBAsyncClient,
    table: str,
    rows: Sequence[Mapping[str, Value]],
    *,
    newer: Sequence[str],
    keep_first: Sequence[str] = (),
    unless: str | None = None,
) -> None:
    """Insert rows by their ``id``, or update the rows that exist already.

    Args:
        rows: all with the same columns, ``id`` and ``version`` among them; no id twice.
        newer: columns that take the new value only if the new row's version is greater.
        keep_first: columns that keep their value once they have one.
        unless: a condition on the existing row (by the table's name) and on the new one (``excluded``); rows that meet
            it stay as they are.
    """
    if not rows:
        return
    statement = Statement(dialect_of(connection))
    columns = list(rows[0])
    tuples = ", ".join(f"({', '.join(statement.placeholder(row[column]) for column in columns)})" for row in rows)
    is_newer = f"excluded.version > {table}.version"
    changes = [
        *(f"{column} = CASE WHEN {is_newer} THEN excluded.{column} ELSE {table}.{column} END" for column in newer),
        *(f"{column} = COALESCE({table}.{column}, excluded.{column})" for column in keep_first),
        f"version = CASE WHEN {is_newer} THEN excluded.version ELSE {table}.version END",
    ]
    guard = f" WHERE NOT ({unless})" if unless else ""
    await connection.execute_query(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {tuples} "  # noqa: S608 - names are constants
        f"ON CONFLICT (id) DO UPDATE SET {', '.join(changes)}{guard}",
        list(statement.values),
    )
