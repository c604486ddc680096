"""The migrations make the tables that the models describe."""

from pathlib import Path

import pytest
from tortoise.context import TortoiseContext
from tortoise.migrations.autodetector import MigrationAutodetector

from worker.database import DOMAINS, configuration, migrate


async def test_models_have_no_changes_without_a_migration(tmp_path: Path) -> None:
    wanted = configuration(f"sqlite://{tmp_path / 'adx.sqlite3'}")
    async with TortoiseContext() as context:
        await context.init(wanted)
        assert context.apps is not None
        changes = await MigrationAutodetector(context.apps, wanted.to_dict()["apps"]).changes()

    assert changes == []


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_all_tables_are_readable_after_migrating_twice(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite://{tmp_path / 'adx.sqlite3'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    await migrate(url)
    await migrate(url)

    async with TortoiseContext() as context:
        await context.init(configuration(url))
        assert context.apps is not None
        counted = [await model.all().count() for domain in DOMAINS for model in context.apps[domain].values()]

    assert len(counted) > len(DOMAINS)
    assert set(counted) == {0}
