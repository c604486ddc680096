"""GraphQL over websockets, served as in production: who speaks, what goes wrong, and how a socket ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiocache.base import BaseCache
from temporalio.client import Client
from websockets.exceptions import InvalidStatus

from contracts.wakeups import LocalWakeups, Wakeups
from gateway.sessions import COOKIE
from tests.gateway.fakes import ADA, GLOBEX, TOKEN, Services, settings
from tests.gateway.serving import FOLLOW, WHO, Gateway, running_gateway


@pytest.fixture
def wakeups() -> Wakeups:
    return LocalWakeups()


@pytest.fixture
async def gateway(
    temporal_address: str, services: Services, cache: BaseCache, wakeups: Wakeups, tmp_path: Path
) -> AsyncIterator[Gateway]:
    known = settings(temporal_address, data_dir=tmp_path)
    async with running_gateway(known, services, cache=cache, wakeups=wakeups) as gateway:
        yield gateway


def codes(messages: list[Any]) -> list[str]:
    """The codes of the errors in the last message but a complete."""
    told = next(message for message in messages if message["type"] != "complete")
    errors = told["payload"] if told["type"] == "error" else told["payload"]["errors"]
    return [error["extensions"]["code"] for error in errors]


@pytest.mark.parametrize(
    ("payload", "headers"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, {}),
        ({"Authorization": TOKEN}, {}),
        ({}, {"cookie": f"{COOKIE}={TOKEN}"}),
        (None, {"authorization": f"Bearer {TOKEN}"}),
        ({"authorization": TOKEN}, {"cookie": f"{COOKIE}=another"}),
    ],
)
async def test_a_socket_says_who_speaks(gateway: Gateway, payload: dict[str, Any], headers: dict[str, str]) -> None:
    async with gateway.open(payload, headers=headers) as sock:
        answer, complete = await sock.ask(WHO)
    assert answer["payload"]["data"] == {"viewer": {"user": {"id": ADA}}}
    assert complete["type"] == "complete"


async def test_what_a_socket_shows_is_loaded_anew_each_time(gateway: Gateway, services: Services) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        await sock.ask(WHO)
        await sock.ask(WHO)
    assert len(services.asked("users/get_users")) == 2


async def test_no_socket_is_compressed(gateway: Gateway) -> None:
    async with gateway.open(compression="deflate") as sock:
        assert sock.connection.protocol.extensions == []


async def test_a_page_of_another_origin_cannot_open_a_socket(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus):
        async with gateway.open(headers={"origin": "https://evil.example", "cookie": f"{COOKIE}={TOKEN}"}):
            pass


async def test_a_follower_is_told_the_state_now_and_each_newer_one_to_the_end(
    gateway: Gateway, temporal_client: Client
) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        started = await sock.start_switch(GLOBEX)
        await sock.subscribe(FOLLOW, id=started["id"])
        assert (await sock.next())["payload"]["data"]["operation"] == {**started, "status": "RUNNING"}
        await sock.subscribe(FOLLOW, id=started["id"], after=started["cursor"])
        await temporal_client.get_workflow_handle(started["id"]).terminate()
        told = [await sock.next() for _ in range(4)]
    assert sorted(message["type"] for message in told) == ["complete", "complete", "next", "next"]
    states = [message["payload"]["data"]["operation"]["status"] for message in told if message["type"] == "next"]
    assert states == ["FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("subscription {", {}, "BAD_USER_INPUT"),
        ("subscription { nope }", {}, "BAD_USER_INPUT"),
        ("", {}, "BAD_USER_INPUT"),
        (FOLLOW, {}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "x" * 300}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "tenant-switch-" + "f" * 32, "after": "forged"}, "BAD_USER_INPUT"),
        (FOLLOW, {"id": "x"}, "NOT_FOUND"),
        (FOLLOW, {"id": "tenant-switch-" + "f" * 32}, "NOT_FOUND"),
    ],
)
async def test_what_goes_wrong_in_a_stream_is_told_and_never_a_bare_complete(
    gateway: Gateway, query: str, variables: dict[str, object], code: str
) -> None:
    async with gateway.open({"authorization": TOKEN}) as sock:
        assert codes(await sock.ask(query, **variables)) == [code]
        assert (await sock.ask(WHO))[0]["payload"]["data"]["viewer"] is not None, "the socket goes on"


async def test_nobody_follows_what_is_not_a_login(gateway: Gateway) -> None:
    async with gateway.open() as sock:
        assert codes(await sock.ask(FOLLOW, id="tenant-switch-" + "f" * 32)) == ["UNAUTHENTICATED"]


async def test_trouble_in_a_stream_tells_nothing(gateway: Gateway, services: Services) -> None:
    def trouble(caller: object, body: object) -> None:
        raise ZeroDivisionError("the database is at 10.0.0.7")

    async with gateway.open({"authorization": TOKEN}) as sock:
        services.handlers["users/get_users"] = trouble
        messages = await sock.ask(WHO)
    assert codes(messages) == ["INTERNAL"]
    assert "10.0.0.7" not in json.dumps(messages)


@pytest.mark.parametrize(
    "frame", [b"\x00", "nope", "[]", '{"type": 5}', '{"type": "subscribe", "id": "1"}', "[" * 9999]
)
async def test_a_frame_that_is_none_closes_the_socket(gateway: Gateway, frame: bytes | str) -> None:
    async with gateway.open() as sock:
        await sock.connection.send(frame)
        assert await sock.end() == 4400
