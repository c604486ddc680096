"""Production refuses to start where something is open that should not be, and says all of it in one sentence."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.settings import FeatureVisibility, Settings
from infrastructure.settings_validation import Environment, format_errors
from tests.gateway.fakes import Services
from tests.stack import plain_environment, run_module
from worker.settings import WorkerSettings

CODEC_KEYS = f"one:{base64.b64encode(b'c' * 32).decode()}"
SOUND = {
    "environment": "production",
    "secret_key": "edge-" * 8,
    "service_key": "services-" * 8,
    "codec_keys": CODEC_KEYS,
}
INTROSPECTION = "{ __schema { queryType { name } } }"


def started(module: str, *arguments: str, **told: str) -> tuple[int, str]:
    """The exit status of a process that should not start, and what it said."""
    environment = plain_environment() | {name.upper(): value for name, value in told.items()}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def fault(**told: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**SOUND | told)  # type: ignore[arg-type]
    return format_errors(caught.value)


def test_a_gateway_in_production_tells_everything_that_is_wrong_at_once() -> None:
    key = "the-same-key-for-everything-there-is"
    status, said = started(
        "gateway",
        environment="production",
        secret_key=key,
        service_key=key,
        graphiql="on",
        introspection="on",
        codec_readers='["grace@example.com"]',
        gateway_port="70000",
    )
    assert status == 2
    assert said.count("\n") == 1
    for part in ("CODEC_KEYS must be set", "SECRET_KEY and SERVICE_KEY must differ", "GRAPHIQL is on", "INTROSPECTION"):
        assert part in said
    for part in ("GATEWAY_PORT", "CODEC_READERS"):
        assert part in said
    assert key not in said
    assert "grace@example.com" not in said


def test_a_worker_in_production_needs_the_keys(tmp_path: Path) -> None:
    status, said = started("worker", "all", environment="production", database_url=f"sqlite://{tmp_path}/db")
    assert status == 2
    assert said == (
        "The environment is not right: SERVICE_KEY Field required; "
        "CODEC_KEYS must be set in production: what Temporal stores would not be encrypted.\n"
    )


@pytest.mark.parametrize("keys", ["one:", "one:c2hvcnQ=", "one", f"{CODEC_KEYS},{CODEC_KEYS}", f":{CODEC_KEYS[4:]}"])
def test_keys_that_are_none_are_refused_by_both(keys: str) -> None:
    assert fault(codec_keys=keys).startswith("The environment is not right: CODEC_KEYS ")
    with pytest.raises(ValidationError) as caught:
        WorkerSettings(
            database_url=SecretStr("sqlite://x"), service_key=SecretStr("s" * 32), codec_keys=SecretStr(keys)
        )
    assert format_errors(caught.value).startswith("The environment is not right: CODEC_KEYS ")


def test_a_short_secret_is_refused() -> None:
    assert "SECRET_KEY" in fault(secret_key="short")
    assert "SERVICE_KEY" in fault(service_key="short")


@pytest.mark.parametrize("name", ["graphiql", "introspection"])
def test_what_is_for_developers_is_shown_only_where_it_is_asked_for_even_in_production(name: str) -> None:
    assert fault(**{name: "on"}) == (
        f"The environment is not right: {name.upper()} is on in production: set force if that is intended."
    )
    Settings(**SOUND | {name: "force"})  # type: ignore[arg-type]
    Settings(**SOUND | {name: "on", "environment": "development"})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def demo_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite://{tmp_path_factory.mktemp('demo') / 'db'}"
    run_module("worker.migrate", plain_environment() | {"DATABASE_URL": url}, "--demo")
    return url


def test_a_worker_in_production_refuses_a_database_with_the_demo_accounts(
    demo_database: str, temporal_address: str, tmp_path: Path
) -> None:
    status, said = started(
        "worker",
        "all",
        database_url=demo_database,
        temporal_address=temporal_address,
        data_dir=str(tmp_path),
        port="0",
        **{name: value for name, value in SOUND.items() if name != "secret_key"},
    )
    assert status == 2
    assert said == "The database has demo accounts, whose password is public: use another database in production.\n"


def test_nobody_fills_a_production_database_with_demo_accounts(tmp_path: Path) -> None:
    status, said = started(
        "worker.migrate", "--demo", environment="production", database_url=f"sqlite://{tmp_path / 'db'}"
    )
    assert (status, said) == (2, "Demo data must not be written in production.\n")


def test_the_stack_of_developers_is_not_for_production(tmp_path: Path) -> None:
    status, said = started("worker.dev", environment="production", data_dir=str(tmp_path / "data"))
    assert status == 1
    assert "make dev is not for production" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "data").exists()


@asynccontextmanager
async def gateway(temporal_address: str, folder: Path, **told: object) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(
        Settings(**SOUND | {"temporal_address": temporal_address, "data_dir": folder} | told),  # type: ignore[arg-type]
        Dependencies(services=Services().transport),
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://gateway.localhost") as client,
    ):
        yield client


async def what_is_shown(client: httpx.AsyncClient) -> dict[str, bool]:
    answer = await client.post("/graphql", json={"query": INTROSPECTION})
    told = answer.json()
    if told.get("data") is None:
        assert {error["extensions"]["code"] for error in told["errors"]} == {"BAD_USER_INPUT"}
    return {
        "graphiql": (await client.get("/graphiql")).status_code == 200,
        "served schema": (await client.get("/graphql/schema")).status_code == 200,
        "introspection": told.get("data") is not None,
        "__typename": "errors" not in (await client.post("/graphql", json={"query": "{ __typename }"})).json(),
    }


@pytest.mark.parametrize(
    ("told", "graphiql", "schema"),
    [
        ({}, False, False),
        ({"graphiql": FeatureVisibility.FORCE}, True, False),
        ({"introspection": FeatureVisibility.FORCE}, False, True),
        ({"environment": Environment.DEVELOPMENT}, True, True),
        (
            {
                "environment": Environment.DEVELOPMENT,
                "graphiql": FeatureVisibility.OFF,
                "introspection": FeatureVisibility.OFF,
            },
            False,
            False,
        ),
    ],
)
async def test_production_shows_neither_graphiql_nor_the_schema_unless_asked(
    temporal_address: str, tmp_path: Path, told: dict[str, object], graphiql: bool, schema: bool
) -> None:
    async with gateway(temporal_address, tmp_path, **told) as client:
        assert await what_is_shown(client) == {
            "graphiql": graphiql,
            "served schema": schema,
            "introspection": schema,
            "__typename": True,
        }
