"""The tables of a release and its code's way with them, as its migrations describe them: what newer ones must bear."""

from __future__ import annotations

import json
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

from tortoise import Tortoise, fields
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.context import TortoiseContext
from tortoise.migrations.executor import MigrationExecutor, MigrationTarget
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.loader import MigrationLoader
from tortoise.migrations.migration import Migration
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_generator.state import ModelState, State
from tortoise.migrations.schema_generator.state_apps import StateApps

from tests.stack import ROOT
from worker.database import configuration

Apps: TypeAlias = Mapping[str, dict[str, Any]]
"""Tortoise's configuration of each domain."""
Names: TypeAlias = Mapping[str, Sequence[str]]
"""The migrations of each domain, first to last."""
Row: TypeAlias = dict[str, Any]

RELEASED_TABLES = Path(__file__).parent / "released"


def newest_release() -> dict[str, Any]:
    """What ``main`` has written of it: each domain's migrations, and its tables with their columns."""
    newest = max(RELEASED_TABLES.glob("*.json"), key=lambda path: tuple(map(int, path.stem.split("."))))
    recorded: dict[str, Any] = json.loads(newest.read_text())
    return recorded


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[BaseDBAsyncClient, Apps]]:
    """The database under a name of its own: Tortoise keeps statements by it, and those of newer models are others."""
    name, config = uuid4().hex, configuration(url).to_dict()
    config["connections"] = {name: url}
    for app in config["apps"].values():
        app["default_connection"] = name
    async with TortoiseContext() as context:
        await context.init(config)
        yield Tortoise.get_connection(name), config["apps"]


async def state_at(apps: Apps, names: Names | None = None) -> tuple[State, Names]:
    """What the models were after these migrations, or are after all; and the migrations."""
    loader = MigrationLoader(dict(apps), MigrationRecorder(None))
    await loader.build_graph()
    state = State(models={}, apps=StateApps({app: config["default_connection"] for app, config in apps.items()}))
    applied: dict[str, list[str]] = {app: [] for app in apps}
    for app in apps:
        for leaf in loader.graph.leaf_nodes(app):
            for key in loader.graph.forwards_plan(leaf):
                if names is None or key.name in names.get(app, ()):  # a domain may be younger than the release
                    migration = loader.graph.nodes[MigrationKey(app_label=app, name=key.name)]
                    assert isinstance(migration, Migration)
                    await migration.apply(state, dry_run=True)
                    applied[app].append(key.name)
    return state, applied


def columns_of(state: State) -> dict[str, dict[str, str]]:
    """Each table's columns in words."""
    return {
        model.table: {
            name: " ".join([type(field).__name__, *_told(field)]) for name, field in sorted(model.fields.items())
        }
        for model in state.models.values()
    }


def _told(field: fields.Field[Any]) -> list[str]:
    length = getattr(field, "max_length", None)
    marks = {"null": field.null, "unique": field.unique, "generated": field.generated, "key": field.pk}
    return [*([str(length)] if length else []), *(name for name, marked in marks.items() if marked)]


def rows_of(model: ModelState) -> tuple[Row, Row]:
    """Two rows: one with the longest values, one with nulls, alike but for what the release itself has unique."""
    unique = {name for name, field in model.fields.items() if field.unique}
    unique |= {together[-1] for together in model.options.get("unique_together", ())}
    written = {name: field for name, field in model.fields.items() if not field.generated}
    full = {name: _value(field, 0) for name, field in written.items()}
    sparse = {name: _value(field, 1) if name in unique else full[name] for name, field in written.items()}
    return full, sparse | {name: None for name, field in written.items() if field.null}


def _value(field: fields.Field[Any], number: int) -> object:
    match field:
        case fields.data.CharEnumFieldInstance():
            return next(member for member in field.enum_type if isinstance(member, Enum))
        case fields.CharField():
            return str(number) * field.max_length
        case fields.TextField():
            return str(number) * 10_000
        case fields.BooleanField():
            return True
        case fields.BigIntField():
            return 2**62 + number
        case fields.IntField():
            return 2**30 + number
        case fields.DatetimeField():
            return datetime(2026, 1, 1 + number, tzinfo=UTC)
        case fields.JSONField():
            return [{"number": number}]
        case _:
            raise AssertionError(f"rows_of knows no value for {type(field).__name__}: add one")


async def assert_borne(connection: BaseDBAsyncClient, apps: Apps, released: Names) -> None:
    """A database that a release has filled is migrated on, and its code goes on there: reads, writes, changes, removes.

    Raises whatever the database says where it cannot.
    """
    executor = MigrationExecutor(connection, dict(apps))
    await executor.migrate([MigrationTarget(app, names[-1]) for app, names in released.items()])
    state, _ = await state_at(apps, released)
    tables = [(state.apps.get_model(app, name), *rows_of(model)) for (app, name), model in state.models.items()]
    for table, full, _ in tables:
        await table.create(**full)
    filled = [await table.all().values() for table, *_ in tables]
    await MigrationExecutor(connection, dict(apps)).migrate()
    for (table, _, sparse), before in zip(tables, filled, strict=True):
        assert await table.all().values() == before, f"{table.__name__} has changed"
        await table.create(**sparse)
        for row in await table.all():
            await row.save(force_update=True)
        assert await table.all().delete() == 2


async def main() -> None:
    """``python -m tests.activities.previous_release``: record the version that pyproject.toml names."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    async with opened("sqlite://:memory:") as (_, apps):
        state, names = await state_at(apps)
    recorded = {"migrations": names, "tables": columns_of(state)}
    (RELEASED_TABLES / f"{version}.json").write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
