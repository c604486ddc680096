"""SQLite databases for tests, copied from a template that each process creates once, because migrations are slow."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from infrastructure.passwords import Passwords
from worker.database import database, migrate
from worker.demo import seed_demo_data

_templates: dict[bool, bytes] = {}
"""The contents of the template databases with and without demo data."""


async def create_sqlite_database(folder: Path, *, demo: bool = False) -> str:
    """Create a migrated database in the folder, with demo data if requested, and return its URL."""
    if demo not in _templates:
        _templates[demo] = await _create_template(demo)
    file = folder / "adx.sqlite3"
    file.write_bytes(_templates[demo])
    return f"sqlite://{file}"


async def _create_template(demo: bool) -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "adx.sqlite3"
        await migrate(f"sqlite://{file}")
        if demo:
            with closing(Passwords()) as passwords:
                async with database(f"sqlite://{file}"):
                    await seed_demo_data(passwords)
        return file.read_bytes()
