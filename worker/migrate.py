"""``make migrate``: migrate the database of DATABASE_URL; ``--demo`` also writes demo data if it is empty."""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infrastructure.passwords import Passwords
from infrastructure.settings_validation import SecretDatabaseUrl
from infrastructure.startup_errors import StartFailure
from worker.database import database, migrate
from worker.demo import seed_demo_data
from worker.roles import grant_tables


class MigrateSettings(BaseSettings):
    """The settings of the migration."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: SecretDatabaseUrl
    environment: str = "development"


async def run(url: str, *, demo: bool) -> None:
    """Migrate the database, grant its tables to the roles of the processes and, with ``demo``, write demo data."""
    await migrate(url)
    await grant_tables(url)
    if demo:
        with closing(Passwords()) as passwords:
            async with database(url):
                await seed_demo_data(passwords)


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--demo"]):
        print("usage: python -m worker.migrate [--demo]", file=sys.stderr)
        return 2
    try:
        settings = MigrateSettings()
    except ValidationError:
        print("DATABASE_URL is not valid: use sqlite://FILE or postgres://USER:PASSWORD@HOST/NAME.", file=sys.stderr)
        return 2
    demo = "--demo" in arguments
    if demo and settings.environment == "production":
        print("Demo data must not be written in production.", file=sys.stderr)
        return 2
    try:
        asyncio.run(run(settings.database_url.get_secret_value(), demo=demo))
    except StartFailure as error:
        print(error, file=sys.stderr)
        return 1
    print("The database is up to date.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
