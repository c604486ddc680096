"""Grant each worker process's PostgreSQL role access to the tables of its own domains only."""

from __future__ import annotations

from collections.abc import Iterator

from tortoise import Tortoise

from worker.database import DOMAINS, database

_ADDITIONAL_READERS = {"tenants_membership": ("auth",)}
"""Domains that may read a table of another domain: a session has the current role of its user in the tenant."""
_HOST_PROCESSES = {"workspaces": "tenants", "notifications": "operations"}
"""The process of each domain without a process of its own name (PROCESSES in worker/registry.py)."""


def role_of(domain: str) -> str:
    """Return the PostgreSQL role of the process that serves the domain; ``docker/postgres/roles.sql`` creates it."""
    return f"adx_{_HOST_PROCESSES.get(domain, domain)}"


async def grant_tables(url: str) -> None:
    """Grant the tables of the domains to those roles that exist; a repeated grant has no effect.

    The role of ``url`` owns the tables, and only it may alter them. Without the roles (SQLite, development) nothing is
    granted.
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
        for domain in _ADDITIONAL_READERS.get(table, ()):
            yield role_of(domain), f'GRANT SELECT ON TABLE "{table}"'


def _sequence_grants(sequences: list[str]) -> Iterator[tuple[str, str]]:
    for sequence in sequences:
        for domain in DOMAINS:
            if sequence.startswith(f"{domain}_"):
                yield role_of(domain), f'GRANT USAGE ON SEQUENCE "{sequence}"'
