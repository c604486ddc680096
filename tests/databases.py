"""SQLite databases for tests, copies of one that is made once in each process: to migrate takes a third of a second."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from infrastructure.passwords import Passwords
from worker.database import database, migrate
from worker.demo import seed_demo_data

_made: dict[bool, bytes] = {}
"""With and without the demo data."""


async def fresh_sqlite(folder: Path, *, demo: bool = False) -> str:
    """The URL of a migrated database in the folder."""
    if demo not in _made:
        _made[demo] = await _make(demo)
    file = folder / "adx.sqlite3"
    file.write_bytes(_made[demo])
    return f"sqlite://{file}"


async def _make(demo: bool) -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "adx.sqlite3"
        await migrate(f"sqlite://{file}")
        if demo:
            with closing(Passwords()) as passwords:
                async with database(f"sqlite://{file}"):
                    await seed_demo_data(passwords)
        return file.read_bytes()
