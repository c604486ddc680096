"""PostgreSQL's roles of the worker processes: each reads and writes the tables of its own domains and no others."""

from __future__ import annotations

from collections.abc import Iterator

from tortoise import Tortoise

from worker.database import DOMAINS, database

_READ_BY = {"tenants_membership": ("auth",)}
"""Tables that another process reads, too: a session has the role that its user has in the tenant now."""
_SERVED_BY = {"workspaces": "tenants", "notifications": "operations"}
"""The process of each domain that has none of its own name (worker/registry.py)."""


def role_of(domain: str) -> str:
    """The role of the process that serves the domain: ``docker/postgres/roles.sql`` makes it."""
    return f"adx_{_SERVED_BY.get(domain, domain)}"


async def grant_tables(url: str) -> None:
    """Let each role that the server has use the tables of its domains; harmless where it may already.

    The tables belong to the role of ``url``, which alone may change them. Without such roles (SQLite, development)
    there is nothing to grant.
    """
    if not url.startswith(("postgres:", "asyncpg:")):
        return
    async with database(url):
        connection = Tortoise.get_connection(url.partition(":")[0])
        roles = {row["rolname"] for row in await connection.execute_query_dict("SELECT rolname FROM pg_roles")}
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        tables = [str(row["tablename"]) for row in await connection.execute_query_dict(query)]
        query = "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
        sequences = [str(row["sequencename"]) for row in await connection.execute_query_dict(query)]
        for role, grant in (*_grants(tables), *_sequence_grants(sequences)):
            if role in roles:
                await connection.execute_script(f'{grant} TO "{role}"')


def _grants(tables: list[str]) -> Iterator[tuple[str, str]]:
    for table in tables:
        for domain in DOMAINS:
            if table.startswith(f"{domain}_"):
                yield role_of(domain), f'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE "{table}"'
        for domain in _READ_BY.get(table, ()):
            yield role_of(domain), f'GRANT SELECT ON TABLE "{table}"'


def _sequence_grants(sequences: list[str]) -> Iterator[tuple[str, str]]:
    for sequence in sequences:
        for domain in DOMAINS:
            if sequence.startswith(f"{domain}_"):
                yield role_of(domain), f'GRANT USAGE ON SEQUENCE "{sequence}"'
