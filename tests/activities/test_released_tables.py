"""Migrations expand before they contract: the code of the last release goes on beside the newest tables."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tortoise.exceptions import BaseORMException

from tests.activities.previous_release import (
    RELEASED_TABLES,
    Apps,
    Names,
    assert_borne,
    columns_of,
    newest_release,
    opened,
    state_at,
)
from tests.stack import ROOT

RELEASED: Names = newest_release()["migrations"]
FORGET = """
class Forget(ops.RemoveField):  # the model forgets it, the table keeps it
    async def database_forward(self, *_): ...
"""


@dataclass(frozen=True)
class Change:
    """The operations of a migration of users that comes after the release's, what they need, and what is said of it."""

    operations: str
    found: str = ""
    before: str = ""


def a_field(rest: str) -> str:
    return f'ops.AddField("User", "nickname", fields.CharField(max_length=40, {rest}))'


def sql(*statements: str) -> str:
    return ", ".join(f'ops.RunSQL("ALTER TABLE {statement}")' for statement in statements)


BREAKING = {
    "a dropped column": Change('ops.RemoveField("User", "name")', 'column "name" does not exist'),
    "a renamed column": Change('ops.RenameField("User", "name", "full_name")', 'column "name" does not exist'),
    "a dropped table": Change('ops.DeleteModel("Preferences")', '"users_preferences" does not exist'),
    "a renamed table": Change(sql("users_preferences RENAME TO settings"), '"users_preferences" does not exist'),
    "a column that rows lack": Change(a_field('default=""'), 'column "nickname" .* contains null'),
    "a column that the older code does not fill": Change(
        sql("users_user ADD nickname text NOT NULL DEFAULT ''", "users_user ALTER nickname DROP DEFAULT"),
        'null value in column "nickname"',
    ),
    "a narrower column": Change('ops.AlterField("User", "name", fields.CharField(max_length=20))', "value too long"),
    "another type": Change(sql("users_user ALTER mfa_enabled TYPE text"), "User has changed"),
    "a new rule": Change('ops.AddConstraint("User", UniqueConstraint(fields=("name",), name="one"))', '"one"'),
}
EXPANDING = {
    "a column that may be null": Change(a_field("null=True")),
    "a column that fills itself": Change(a_field('db_default=""')),
    "a wider column": Change('ops.AlterField("User", "name", fields.CharField(max_length=300))'),
    "a column that the models forget": Change(
        'ops.AlterField("User", "name", fields.CharField(max_length=200, null=True)), Forget("User", "name")',
        before=FORGET,
    ),
}


def with_change(users: dict[str, Any], folder: Path, kind: str, change: Change) -> Apps:
    """The domain of users with one migration more; ``folder`` must be on the path that imports search."""
    package = folder / f"{kind}_{uuid4().hex}"
    package.mkdir()
    for file in Path(importlib.import_module(users["migrations"]).__path__[0]).glob("*.py"):
        (package / file.name).write_text(file.read_text())
    last = max(file.stem for file in package.glob("[0-9]*.py"))
    (package / f"{int(last[:4]) + 1:04}_change.py").write_text(
        "from tortoise import fields, migrations\nfrom tortoise.migrations import operations as ops\n"
        "from tortoise.migrations.constraints import UniqueConstraint\n"
        f"{change.before}\nclass Migration(migrations.Migration):\n"
        f'    dependencies = [("users", "{last}")]\n    operations = [{change.operations}]\n'
    )
    importlib.invalidate_caches()
    return {"users": {**users, "migrations": package.name}}


async def test_released_migrations_are_unchanged(tmp_path: Path) -> None:
    async with opened(f"sqlite://{tmp_path / 'adx.sqlite3'}") as (_, apps):
        state, names = await state_at(apps, RELEASED)
    assert {app: applied for app, applied in names.items() if applied} == RELEASED
    assert columns_of(state) == newest_release()["tables"], "make another migration instead"


def test_tables_of_every_release_are_recorded() -> None:
    schemas = {path.stem for path in (ROOT / "tests" / "schema" / "released").glob("*.graphql")}
    assert {path.stem for path in RELEASED_TABLES.glob("*.json")} == schemas, (
        "python -m tests.activities.previous_release"
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_models_of_the_last_release_work_on_the_newest_tables(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite://{tmp_path / 'adx.sqlite3'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    async with opened(url) as (connection, apps):
        await assert_borne(connection, apps, RELEASED)


@pytest.mark.parametrize("what", BREAKING)
async def test_breaking_migrations_are_detected(
    what: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    async with opened(postgres_url) as (connection, apps):
        users = with_change(apps["users"], tmp_path, "breaking", BREAKING[what])
        with pytest.raises((BaseORMException, AssertionError), match=BREAKING[what].found):
            await assert_borne(connection, users, {"users": RELEASED["users"]})


@pytest.mark.parametrize("what", EXPANDING)
async def test_expanding_migrations_are_accepted(
    what: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    async with opened(postgres_url) as (connection, apps):
        users = with_change(apps["users"], tmp_path, "expanding", EXPANDING[what])
        await assert_borne(connection, users, {"users": RELEASED["users"]})


async def test_column_can_be_dropped_one_release_after_the_model_field(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    async with opened(postgres_url) as (connection, apps):
        forgetting = with_change(apps["users"], tmp_path, "forgetting", EXPANDING["a column that the models forget"])
        _, released = await state_at(forgetting)
        drop = Change(sql("users_user DROP COLUMN name"))
        dropping = with_change(forgetting["users"], tmp_path, "dropping", drop)
        await assert_borne(connection, dropping, released)
