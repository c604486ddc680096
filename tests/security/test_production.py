"""Production refuses to start with an insecure configuration and lists all problems in one line."""

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
from tests.gateway.fakes import FakeServices
from tests.stack import plain_environment, run_module
from worker.settings import WorkerSettings

CODEC_KEYS = f"one:{base64.b64encode(b'c' * 32).decode()}"
VALID_SETTINGS = {
    "environment": "production",
    "secret_key": "edge-" * 8,
    "service_key": "services-" * 8,
    "codec_keys": CODEC_KEYS,
}
INTROSPECTION = "{ __schema { queryType { name } } }"


def run_module_to_its_end(module: str, *arguments: str, **overrides: str) -> tuple[int, str]:
    """Run a module that should refuse to start; return its exit status and its output."""
    environment = plain_environment() | {name.upper(): value for name, value in overrides.items()}
    command = [sys.executable, "-m", module, *arguments]
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return completed.returncode, completed.stdout + completed.stderr


def error_message(**overrides: object) -> str:
    """Return the message for production settings with these overrides."""
    with pytest.raises(ValidationError) as caught:
        Settings(**VALID_SETTINGS | overrides)  # type: ignore[arg-type]
    return format_errors(caught.value)


def test_gateway_lists_all_insecure_settings_in_production() -> None:
    key = "the-same-key-for-everything-there-is"
    status, output = run_module_to_its_end(
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
    assert output.count("\n") == 1
    for fragment in (
        "CODEC_KEYS must be set",
        "SECRET_KEY and SERVICE_KEY must differ",
        "GRAPHIQL is on",
        "INTROSPECTION",
    ):
        assert fragment in output
    for fragment in ("GATEWAY_PORT", "CODEC_READERS"):
        assert fragment in output
    assert key not in output
    assert "grace@example.com" not in output


def test_worker_requires_keys_in_production(tmp_path: Path) -> None:
    status, output = run_module_to_its_end(
        "worker", "all", environment="production", database_url=f"sqlite://{tmp_path}/db"
    )
    assert status == 2
    assert output == (
        "The environment is not right: SERVICE_KEY Field required; "
        "CODEC_KEYS must be set in production: what Temporal stores would not be encrypted.\n"
    )


@pytest.mark.parametrize("keys", ["one:", "one:c2hvcnQ=", "one", f"{CODEC_KEYS},{CODEC_KEYS}", f":{CODEC_KEYS[4:]}"])
def test_gateway_and_worker_refuse_invalid_codec_keys(keys: str) -> None:
    assert error_message(codec_keys=keys).startswith("The environment is not right: CODEC_KEYS ")
    with pytest.raises(ValidationError) as caught:
        WorkerSettings(
            database_url=SecretStr("sqlite://x"), service_key=SecretStr("s" * 32), codec_keys=SecretStr(keys)
        )
    assert format_errors(caught.value).startswith("The environment is not right: CODEC_KEYS ")


def test_refuses_short_secrets() -> None:
    assert "SECRET_KEY" in error_message(secret_key="short")
    assert "SERVICE_KEY" in error_message(service_key="short")


@pytest.mark.parametrize("name", ["graphiql", "introspection"])
def test_developer_features_must_be_forced_in_production(name: str) -> None:
    assert error_message(**{name: "on"}) == (
        f"The environment is not right: {name.upper()} is on in production: set force if that is intended."
    )
    Settings(**VALID_SETTINGS | {name: "force"})  # type: ignore[arg-type]
    Settings(**VALID_SETTINGS | {name: "on", "environment": "development"})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def demo_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with demo accounts."""
    url = f"sqlite://{tmp_path_factory.mktemp('demo') / 'db'}"
    run_module("worker.migrate", plain_environment() | {"DATABASE_URL": url}, "--demo")
    return url


def test_worker_refuses_demo_accounts_in_production(demo_database: str, temporal_address: str, tmp_path: Path) -> None:
    status, output = run_module_to_its_end(
        "worker",
        "all",
        database_url=demo_database,
        temporal_address=temporal_address,
        data_dir=str(tmp_path),
        worker_port="0",
        **{name: value for name, value in VALID_SETTINGS.items() if name != "secret_key"},
    )
    assert status == 2
    assert output == "The database has demo accounts, whose password is public: use another database in production.\n"


def test_migration_refuses_demo_accounts_in_production(tmp_path: Path) -> None:
    status, output = run_module_to_its_end(
        "worker.migrate", "--demo", environment="production", database_url=f"sqlite://{tmp_path / 'db'}"
    )
    assert (status, output) == (2, "Demo data must not be written in production.\n")


def test_development_stack_refuses_production(tmp_path: Path) -> None:
    status, output = run_module_to_its_end("worker.dev", environment="production", data_dir=str(tmp_path / "data"))
    assert status == 1
    assert "make dev is not for production" in output
    assert output.count("\n") == 1
    assert not (tmp_path / "data").exists()


@asynccontextmanager
async def gateway(temporal_address: str, folder: Path, **overrides: object) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client of a gateway in production."""
    app = create_app(
        Settings(**VALID_SETTINGS | {"temporal_address": temporal_address, "data_dir": folder} | overrides),  # type: ignore[arg-type]
        Dependencies(services=FakeServices().transport),
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://gateway.localhost") as client,
    ):
        yield client


async def visible_features(client: httpx.AsyncClient) -> dict[str, bool]:
    """Return which features for developers the gateway shows."""
    response = await client.post("/graphql", json={"query": INTROSPECTION})
    overrides = response.json()
    if overrides.get("data") is None:
        assert {error["extensions"]["code"] for error in overrides["errors"]} == {"BAD_USER_INPUT"}
    return {
        "graphiql": (await client.get("/graphiql")).status_code == 200,
        "served schema": (await client.get("/graphql/schema")).status_code == 200,
        "introspection": overrides.get("data") is not None,
        "__typename": "errors" not in (await client.post("/graphql", json={"query": "{ __typename }"})).json(),
    }


@pytest.mark.parametrize(
    ("overrides", "has_graphiql", "has_schema"),
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
async def test_production_hides_graphiql_and_the_schema_unless_forced(
    temporal_address: str, tmp_path: Path, overrides: dict[str, object], has_graphiql: bool, has_schema: bool
) -> None:
    async with gateway(temporal_address, tmp_path, **overrides) as client:
        assert await visible_features(client) == {
            "graphiql": has_graphiql,
            "served schema": has_schema,
            "introspection": has_schema,
            "__typename": True,
        }
