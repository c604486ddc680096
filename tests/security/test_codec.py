"""Temporal's UI and CLI read what is encrypted through the gateway, for those alone who are named; and keys rotate."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from temporalio.api.common.v1 import Payload

from contracts.errors import ServiceUnavailable
from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.settings import Settings
from infrastructure.temporal.codec import EncryptionCodec, KeyRing
from tests.gateway.fakes import ADA, GLOBEX, GRACE, KEY, TOKEN, Services
from tests.gateway.live_gateway import introduction, running_gateway
from worker.dev.binaries import temporal_cli

OLD = f"old:{base64.b64encode(b'o' * 32).decode()}"
NEW = f"new:{base64.b64encode(b'n' * 32).decode()}"
UI = "https://temporal.test"
SECRET = "what only administrators read"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def settings(temporal_address: str, folder: Path, **told: object) -> Settings:
    usual = {"secret_key": KEY, "service_key": KEY, "codec_keys": OLD, "codec_readers": (ADA,), "codec_origins": (UI,)}
    where = {"temporal_address": temporal_address, "data_dir": folder}
    return Settings(**usual | where | told)  # type: ignore[arg-type]


@asynccontextmanager
async def gateway(settings: Settings, services: Services | None = None) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings, Dependencies(services=(services or Services()).transport))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.localhost") as client,
    ):
        yield client


@pytest.fixture
async def client(temporal_address: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(settings(temporal_address, tmp_path)) as client:
        yield client


async def sealed(*words: str, keys: str = OLD) -> dict[str, Any]:
    """As Temporal's UI sends it."""
    plain = [Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(word).encode()) for word in words]
    encrypted = await EncryptionCodec(KeyRing.parse(keys)).encode(plain)
    return {
        "payloads": [
            {
                "metadata": {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()},
                "data": base64.b64encode(payload.data).decode(),
            }
            for payload in encrypted
        ]
    }


def opened(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [json.loads(base64.b64decode(payload["data"])) for payload in answer.json()["payloads"]]


async def test_who_is_named_has_payloads_decrypted_and_that_is_written_down(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await client.post(
            "/codec/decode", json=await sealed(SECRET, "two"), headers=BEARER | {"x-namespace": "default"}
        )
    assert opened(answer) == [SECRET, "two"]
    assert answer.headers["cache-control"] == "no-store"
    (line,) = [line for line in logs if line["event"] == "payloads_decoded"]
    assert (line["user_id"], line["namespace"], line["payloads"], line["keys"]) == (ADA, "default", 2, ["old"])
    assert line["session_id"].startswith("ses_")
    assert SECRET not in str(logs)


async def test_nobody_else_does_and_that_is_written_down_too(temporal_address: str, tmp_path: Path) -> None:
    """Ada is an administrator of her tenant, and that is not enough."""
    async with gateway(settings(temporal_address, tmp_path, codec_readers=(GRACE,))) as client:
        with structlog.testing.capture_logs() as logs:
            answer = await client.post("/codec/decode", json=await sealed(SECRET), headers=BEARER)
        assert (answer.status_code, answer.json()) == (403, {"message": "You may not read what Temporal stores."})
        assert [line["user_id"] for line in logs if line["event"] == "payload_decoding_refused"] == [ADA]


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "https://evil.test"}, {"origin": "https://evil.test", "cookie": f"adx_session={TOKEN}"}]
)
async def test_without_a_session_of_ones_own_nothing_is_decrypted(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await client.post("/codec/decode", json=await sealed(SECRET), headers=headers)).status_code == 403


@pytest.mark.parametrize("headers", [{"origin": UI}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}])
async def test_a_token_that_opens_nothing_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await client.post("/codec/decode", json=await sealed(SECRET), headers=headers)
    assert answer.status_code == 401
    assert SECRET not in answer.text


async def test_a_page_of_temporals_ui_may_ask_with_the_viewers_cookie(client: httpx.AsyncClient) -> None:
    asked = {"origin": UI, "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "content-type,x-namespace"
    preflight = await client.options("/codec/decode", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == UI
    assert preflight.headers["access-control-allow-credentials"] == "true"

    answer = await client.post(
        "/codec/decode",
        json=await sealed(SECRET),
        headers={"origin": UI, "cookie": f"adx_session={TOKEN}", "x-namespace": "default"},
    )
    assert opened(answer) == [SECRET]
    assert answer.headers["access-control-allow-origin"] == UI


async def test_a_page_from_elsewhere_may_not_even_ask(client: httpx.AsyncClient) -> None:
    asked = {"origin": "https://evil.test", "access-control-request-method": "POST"}
    assert (await client.options("/codec/decode", headers=asked)).status_code == 400
    answer = await client.post("/codec/decode", json=await sealed(SECRET), headers=BEARER | {"origin": asked["origin"]})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("told", [{"codec_readers": ()}, {"codec_keys": None}])
async def test_where_nobody_is_named_there_is_no_endpoint(
    temporal_address: str, tmp_path: Path, told: dict[str, object]
) -> None:
    async with gateway(settings(temporal_address, tmp_path, **told)) as client:
        assert (await client.post("/codec/decode", json={}, headers=BEARER)).status_code == 404
        assert (await client.post("/codec/encode", json={}, headers=BEARER)).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"payloads": 1}', b"[" * 100_000])
async def test_a_body_that_is_none_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/codec/decode", content=body, headers=BEARER)
    assert (answer.status_code, answer.json()) == (400, {"message": "The body is not Payloads in JSON."})


async def test_a_key_that_is_gone_and_a_payload_that_was_changed_are_named(client: httpx.AsyncClient) -> None:
    gone = await client.post("/codec/decode", json=await sealed(SECRET, keys=NEW), headers=BEARER)
    assert gone.status_code == 400
    assert gone.json() == {"message": "This was encrypted under the key 'new', which CODEC_KEYS does not hold."}
    forged = await sealed(SECRET)
    forged["payloads"][0]["data"] = base64.b64encode(b"x" * 60).decode()
    changed = await client.post("/codec/decode", json=forged, headers=BEARER)
    assert (changed.status_code, changed.json()["message"]) == (
        400,
        "This is not what was encrypted under the key 'old'.",
    )


async def test_where_the_auth_service_is_away_nothing_is_decrypted(temporal_address: str, tmp_path: Path) -> None:
    def away(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="auth")

    services = Services({"auth/get_current_session": away})
    async with gateway(settings(temporal_address, tmp_path), services) as client:
        answer = await client.post("/codec/decode", json=await sealed(SECRET), headers=BEARER)
    assert answer.status_code == 503
    assert SECRET not in answer.text


async def test_temporals_own_command_reads_a_history_through_it(temporal_address: str, tmp_path: Path) -> None:
    async with running_gateway(settings(temporal_address, tmp_path), Services()) as gateway:
        async with gateway.open(introduction()) as socket:
            operation_id = (await socket.start_switch(GLOBEX))["id"]
        in_clear = await shown(temporal_address, operation_id)
        decoded = await shown(temporal_address, operation_id, gateway.http, f"Bearer {TOKEN}")
        refused = await shown(temporal_address, operation_id, gateway.http, "Bearer nobody")
    assert [GLOBEX in text for text in (in_clear, decoded, refused)] == [False, True, False]


async def shown(temporal_address: str, operation_id: str, endpoint: str | None = None, auth: str = "") -> str:
    """What ``temporal workflow show`` says, with what is in base64 as text."""
    command = [str(temporal_cli()), "workflow", "show", "--address", temporal_address, "--workflow-id", operation_id]
    command += ["--output", "json", "--command-timeout", "5s"]
    if endpoint is not None:
        command += ["--codec-endpoint", f"{endpoint}/codec", "--codec-auth", auth]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    run = asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, env=environment)
    done: subprocess.CompletedProcess[str] = await run
    data = re.findall(r'"data": "([^"]+)"', done.stdout)
    return done.stdout + done.stderr + "".join(base64.b64decode(each).decode(errors="replace") for each in data)
