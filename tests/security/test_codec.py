"""The codec server decrypts payloads for Temporal's UI and CLI, for named users only, and with former keys."""

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
from tests.gateway.fakes import ADA, GLOBEX, GRACE, KEY, TOKEN, FakeServices
from tests.gateway.live_gateway import authorization, running_gateway
from worker.dev.binaries import temporal_cli

OLD = f"old:{base64.b64encode(b'o' * 32).decode()}"
NEW = f"new:{base64.b64encode(b'n' * 32).decode()}"
UI = "https://temporal.test"
SECRET = "what only administrators read"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def settings(temporal_address: str, folder: Path, **overrides: object) -> Settings:
    """Return settings with a codec server that Ada may use."""
    defaults = {
        "secret_key": KEY,
        "service_key": KEY,
        "codec_keys": OLD,
        "codec_readers": (ADA,),
        "codec_origins": (UI,),
    }
    locations = {"temporal_address": temporal_address, "data_dir": folder}
    return Settings(**defaults | locations | overrides)  # type: ignore[arg-type]


@asynccontextmanager
async def gateway(settings: Settings, services: FakeServices | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an HTTP client of a gateway in this process."""
    app = create_app(settings, Dependencies(services=(services or FakeServices()).transport))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway.localhost") as client,
    ):
        yield client


@pytest.fixture
async def client(temporal_address: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway with a codec server."""
    async with gateway(settings(temporal_address, tmp_path)) as client:
        yield client


async def encrypted_payloads(*texts: str, keys: str = OLD) -> dict[str, Any]:
    """Return the encrypted texts in the JSON form that Temporal's UI sends."""
    plain = [Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(text).encode()) for text in texts]
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


def decrypted(response: httpx.Response) -> list[str]:
    """Return the texts of a successful response."""
    assert response.status_code == 200, response.text
    return [json.loads(base64.b64decode(payload["data"])) for payload in response.json()["payloads"]]


async def test_decrypts_payloads_for_a_named_user_and_logs_it(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        response = await client.post(
            "/codec/decode", json=await encrypted_payloads(SECRET, "two"), headers=BEARER | {"x-namespace": "default"}
        )
    assert decrypted(response) == [SECRET, "two"]
    assert response.headers["cache-control"] == "no-store"
    (line,) = [line for line in logs if line["event"] == "payloads_decoded"]
    assert (line["user_id"], line["namespace"], line["payloads"], line["keys"]) == (ADA, "default", 2, ["old"])
    assert line["session_id"].startswith("ses_")
    assert SECRET not in str(logs)


async def test_refuses_other_users_and_logs_it(temporal_address: str, tmp_path: Path) -> None:
    """Ada is an administrator of her tenant, which is not sufficient."""
    async with gateway(settings(temporal_address, tmp_path, codec_readers=(GRACE,))) as client:
        with structlog.testing.capture_logs() as logs:
            response = await client.post("/codec/decode", json=await encrypted_payloads(SECRET), headers=BEARER)
        assert (response.status_code, response.json()) == (403, {"message": "You may not read what Temporal stores."})
        assert [line["user_id"] for line in logs if line["event"] == "payload_decoding_refused"] == [ADA]


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "https://evil.test"}, {"origin": "https://evil.test", "cookie": f"adx_session={TOKEN}"}]
)
async def test_decrypts_nothing_without_a_session(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (
        await client.post("/codec/decode", json=await encrypted_payloads(SECRET), headers=headers)
    ).status_code == 403


@pytest.mark.parametrize("headers", [{"origin": UI}, {"authorization": "Bearer x"}, {"authorization": "Basic x"}])
async def test_refuses_an_unknown_token(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/codec/decode", json=await encrypted_payloads(SECRET), headers=headers)
    assert response.status_code == 401
    assert SECRET not in response.text


async def test_allows_the_temporal_ui_with_the_session_cookie(client: httpx.AsyncClient) -> None:
    preflight_headers = {"origin": UI, "access-control-request-method": "POST"}
    preflight_headers["access-control-request-headers"] = "content-type,x-namespace"
    preflight = await client.options("/codec/decode", headers=preflight_headers)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == UI
    assert preflight.headers["access-control-allow-credentials"] == "true"

    response = await client.post(
        "/codec/decode",
        json=await encrypted_payloads(SECRET),
        headers={"origin": UI, "cookie": f"adx_session={TOKEN}", "x-namespace": "default"},
    )
    assert decrypted(response) == [SECRET]
    assert response.headers["access-control-allow-origin"] == UI


async def test_refuses_preflights_of_other_origins(client: httpx.AsyncClient) -> None:
    preflight_headers = {"origin": "https://evil.test", "access-control-request-method": "POST"}
    assert (await client.options("/codec/decode", headers=preflight_headers)).status_code == 400
    response = await client.post(
        "/codec/decode", json=await encrypted_payloads(SECRET), headers=BEARER | {"origin": preflight_headers["origin"]}
    )
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("overrides", [{"codec_readers": ()}, {"codec_keys": None}])
async def test_has_no_endpoint_without_named_users_or_keys(
    temporal_address: str, tmp_path: Path, overrides: dict[str, object]
) -> None:
    async with gateway(settings(temporal_address, tmp_path, **overrides)) as client:
        assert (await client.post("/codec/decode", json={}, headers=BEARER)).status_code == 404
        assert (await client.post("/codec/encode", json={}, headers=BEARER)).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"payloads": 1}', b"[" * 100_000])
async def test_refuses_an_invalid_body(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/codec/decode", content=body, headers=BEARER)
    assert (response.status_code, response.json()) == (400, {"message": "The body is not Payloads in JSON."})


async def test_names_an_unknown_key_and_a_changed_payload(client: httpx.AsyncClient) -> None:
    gone = await client.post("/codec/decode", json=await encrypted_payloads(SECRET, keys=NEW), headers=BEARER)
    assert gone.status_code == 400
    assert gone.json() == {"message": "This was encrypted under the key 'new', which CODEC_KEYS does not hold."}
    forged = await encrypted_payloads(SECRET)
    forged["payloads"][0]["data"] = base64.b64encode(b"x" * 60).decode()
    changed = await client.post("/codec/decode", json=forged, headers=BEARER)
    assert (changed.status_code, changed.json()["message"]) == (
        400,
        "This is not what was encrypted under the key 'old'.",
    )


async def test_decrypts_nothing_while_the_auth_service_is_unavailable(temporal_address: str, tmp_path: Path) -> None:
    def unavailable(caller: object, body: object) -> None:
        raise ServiceUnavailable(service="auth")

    services = FakeServices({"auth/get_current_session": unavailable})
    async with gateway(settings(temporal_address, tmp_path), services) as client:
        response = await client.post("/codec/decode", json=await encrypted_payloads(SECRET), headers=BEARER)
    assert response.status_code == 503
    assert SECRET not in response.text


async def test_temporal_cli_reads_a_history_through_the_codec_server(temporal_address: str, tmp_path: Path) -> None:
    async with running_gateway(settings(temporal_address, tmp_path), FakeServices()) as gateway:
        async with gateway.open(authorization()) as socket:
            operation_id = (await socket.start_switch(GLOBEX))["id"]
        in_clear = await workflow_show(temporal_address, operation_id)
        decoded = await workflow_show(temporal_address, operation_id, gateway.http, f"Bearer {TOKEN}")
        refused = await workflow_show(temporal_address, operation_id, gateway.http, "Bearer nobody")
    assert [GLOBEX in text for text in (in_clear, decoded, refused)] == [False, True, False]


async def workflow_show(temporal_address: str, operation_id: str, endpoint: str | None = None, auth: str = "") -> str:
    """Return the output of ``temporal workflow show``, with base64 data decoded as text."""
    command = [str(temporal_cli()), "workflow", "show", "--address", temporal_address, "--workflow-id", operation_id]
    command += ["--output", "json", "--command-timeout", "5s"]
    if endpoint is not None:
        command += ["--codec-endpoint", f"{endpoint}/codec", "--codec-auth", auth]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TEMPORAL_")}
    run = asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, env=environment)
    completed: subprocess.CompletedProcess[str] = await run
    data = re.findall(r'"data": "([^"]+)"', completed.stdout)
    return (
        completed.stdout + completed.stderr + "".join(base64.b64decode(each).decode(errors="replace") for each in data)
    )
