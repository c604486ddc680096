"""What is another tenant's, what is gone and what never was are one and the same to whoever gives an id, anywhere."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import build_schema as read_schema
from pydantic import SecretStr
from temporalio.client import Client as Temporal

from gateway.app import create_app
from gateway.dependencies import Dependencies
from gateway.server.main import serve
from gateway.settings import Settings
from infrastructure.storage import default_storage_url
from schema.schema import build_schema
from tests.end_to_end.client import PASSWORD, graphql_socket
from tests.security.call_counter import CountingTransport, Counts, TemporalCounts
from tests.security.id_arguments import CannotBeExercised, Place, document, places
from tests.security.two_tenants import OPERATIONS, RANDOM, THINGS, World, database_of, make_world
from tests.stack import Stack
from tests.workflows.saga_harness import FaultPlan, open_saga_harness

SCHEMA = read_schema(build_schema().as_str())
MEANT = {"tenantId": ("ten",), "sessionId": ("ses",), "fileId": ("fil",), "uploadId": ("upl",)} | {
    "startedByIds": ("usr",),
    "targetIds": ("usr", "fil"),
}
"""Which things an argument of that name means. Any other means whatever has an id."""
QUICK = ("Query.node", "Query.operation", "Mutation.revokeSession", "Mutation.processFile", "Mutation.cancelOperation")
"""Which are answered by what is looked up, and start nothing."""
OF_OPERATIONS = ("operation", "cancelOperation", "retryOperation", "submitMfaCode")

Ask = Callable[[str, str], Awaitable[str]]
"""The whole answer to a document about an id, without what differs each time."""


def given(world_email: str) -> dict[str, str]:
    """What documents need beside an id."""
    return {
        "email": json.dumps(world_email),
        "password": json.dumps(PASSWORD),
        "code": '"123456"',
        "waitSeconds": "30",
    }


def kinds_at(place: Place) -> tuple[str, ...]:
    if place.field in OF_OPERATIONS:
        return OPERATIONS
    return MEANT.get(place.path[-1], (*THINGS, *OPERATIONS))


@pytest.mark.parametrize("place", list(places(SCHEMA)), ids=str)
def test_there_is_a_way_to_try_every_id_of_the_schema(place: Place) -> None:
    assert "$id" in document(SCHEMA, place, given("x"))
    assert kinds_at(place)


def test_an_id_in_a_new_place_cannot_be_forgotten() -> None:
    schema = read_schema(
        """
        directive @from(tenant: ID) on FIELD
        input Deep { inner: Deeper again: Deep } input Deeper { ids: [[ID!]!] other: String! }
        type Thing { of(parent: ID!): Int }
        type Query { thing(where: [Deep!], strange: Int!): Thing }
        """
    )
    found = {str(place): place for place in places(schema)}
    assert set(found) == {"@from.(tenant)", "Thing.of(parent)", "Query.thing(where.inner.ids)"}
    for name, why in (("Thing.of(parent)", "not at a root"), ("Query.thing(where.inner.ids)", "needs other")):
        with pytest.raises(CannotBeExercised, match=why):
            document(schema, found[name], {"strange": "1"})
    written = document(schema, found["Query.thing(where.inner.ids)"], {"strange": "1", "other": '"x"'})
    assert written.startswith('query ($id: ID!) { thing(where: [{inner: {ids: [[$id]], other: "x"}}], strange: 1)')


def over_http(world: World, http: httpx.AsyncClient, url: str) -> Ask:
    async def ask(query: str, id: str) -> str:
        answer = await http.post(
            url,
            json={"query": query, "variables": {"id": id}},
            headers={"authorization": f"Bearer {world.viewer.token}"},
        )
        return without_chance(answer.json(), id)

    return ask


def narrows_a_list(place: Place) -> bool:
    """Return whether the id is in a filter: filters select from what the viewer sees, so the list is empty."""
    return "filter" in place.path


def narrows_a_feed(place: Place) -> bool:
    """Return whether the id filters a feed: a feed never ends, so its work cannot be measured like that of a query."""
    return place.owner == "Subscription" and narrows_a_list(place)


def over_a_socket(world: World, url: str, *, seconds: float = 30, is_endless: bool = False) -> Ask:
    """Ask on a websocket. The answer to an endless feed is what it emits within ``seconds``."""

    async def ask(query: str, id: str) -> str:
        said: list[Any] = []
        with suppress(TimeoutError) if is_endless else nullcontext():
            async with asyncio.timeout(seconds), graphql_socket(url, world.viewer.token) as socket:
                payload = {"query": query, "variables": {"id": id}}
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
                while is_endless or not said or said[-1]["type"] not in ("error", "complete"):
                    said.append(json.loads(await socket.recv()))
        return without_chance(said, id)

    return ask


def without_chance(answer: object, id: str) -> str:
    """Without the id itself, the request's, and what the answer took, which is answers in development only."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: stripped(each) for name, each in value.items() if name not in ("requestId", "trace")}
        return [stripped(each) for each in value] if isinstance(value, list) else value

    return json.dumps(stripped(answer)).replace(id, "THE ID")


def question(place: Place, world: World) -> str:
    return document(SCHEMA, place, given(world.email))


@asynccontextmanager
async def asking(world: World, stack: Stack) -> AsyncIterator[Callable[[Place], Ask]]:
    """How a document about a place is asked."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        posted, subscribed = over_http(world, http, stack.graphql), over_a_socket(world, stack.websocket)
        followed = over_a_socket(world, stack.websocket, seconds=0.7, is_endless=True)
        yield (
            lambda place: followed if narrows_a_feed(place) else subscribed if place.owner == "Subscription" else posted
        )


def refuses(answer: str) -> bool:
    """A wrong document would be answered alike for all ids, too."""
    return '"NOT_FOUND"' in answer or '"PERMISSION_DENIED"' in answer


@pytest.fixture(params=["dev_stack", "separate_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


async def test_an_id_of_another_tenant_one_that_is_gone_and_a_random_one_are_answered_alike(stack: Stack) -> None:
    world = await make_world(stack, database_of(stack))
    found = []
    async with asking(world, stack) as way:
        for place, kind in tries():
            answers = {what: await way(place)(question(place, world), id) for what, id in world.ids[kind].items()}
            if len(set(answers.values())) > 1 or not (narrows_a_list(place) or refuses(answers[RANDOM])):
                found.append(f"{place} with {kind}: {answers}")
    assert "\n".join(found) == ""


async def test_nothing_more_is_done_for_one_than_for_another(
    temporal_client: Temporal, temporal_address: str, tmp_path: Path
) -> None:
    """Nothing more is asked of services, of Temporal and of the database, so that no clock tells them apart. One call
    more would be lost in what a clock shows; what is no call, as a text that is decrypted, the processor's clock shows.
    """
    found = []
    async with counted_stack(temporal_client, temporal_address, tmp_path) as (stack, counts):
        world = await make_world(stack, database_of(stack, "adx.sqlite3"))
        async with asking(world, stack) as way:
            for place, kind in (each for each in tries() if not narrows_a_feed(each[0])):
                for times in (1, 3, 9):  # background work may have caused the difference
                    work = {
                        what: await least_work(counts, way(place), question(place, world), id, times)
                        for what, id in world.ids[kind].items()
                    }
                    is_same = len({json.dumps(comparable(each), sort_keys=True) for each in work.values()}) == 1
                    if is_same:
                        break
                else:
                    found.append(f"{place} with {kind}: {work}")
            for place, kind in tries():
                if f"{place.owner}.{place.field}" in QUICK and not await takes_as_long(
                    way(place), question(place, world), world.ids[kind]
                ):
                    found.append(f"{place} with {kind} takes longer for one")
    assert "\n".join(found) == ""


async def takes_as_long(ask: Ask, query: str, ids: dict[str, str]) -> bool:
    """Whether all of them take the processor as long, of gateway, services and database together: asked in turns, and
    once more where one seems to take longer, for there is other work in between.
    """
    for rounds in (5, 15, 31):
        taken: dict[str, list[float]] = {id: [] for id in ids.values()}
        for _ in range(rounds):
            for id, times in taken.items():
                before = time.process_time()
                await ask(query, id)
                times.append(time.process_time() - before)
        medians = sorted(statistics.median(times) for times in taken.values())
        if medians[-1] < 1.3 * medians[0]:
            return True
    return False


def tries() -> list[tuple[Place, str]]:
    return [(place, kind) for place in places(SCHEMA) for kind in kinds_at(place)]


def comparable(work: dict[str, int]) -> dict[str, int]:
    """Where an operation was started its states are read as they come, more often or less: that counts as once."""
    return dict.fromkeys(work, 1) if "temporal start" in work else work


async def least_work(counts: Counts, ask: Ask, query: str, id: str, times: int) -> dict[str, int]:
    """What was done each time, and so not by chance beside one of them."""
    least: Counter[str] | None = None
    for _ in range(times):
        with counts.counting() as done:
            await ask(query, id)
        least = done if least is None else least & done
    return dict(least or {})


@asynccontextmanager
async def counted_stack(temporal: Temporal, address: str, folder: Path) -> AsyncIterator[tuple[Stack, Counts]]:
    """Gateway, services and workers in this process."""
    counts = Counts()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    async with open_saga_harness(temporal, folder, FaultPlan()) as harness:
        settings = Settings(
            gateway_port=port,
            temporal_address=address,
            secret_key=SecretStr("k" * 32),
            service_key=SecretStr("s" * 32),
            storage_url=default_storage_url(folder),
        )
        services = CountingTransport(httpx.ASGITransport(harness.services), counts)
        app = create_app(settings, Dependencies(services=services, interceptors=[TemporalCounts(counts)]))
        stop, answering = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(
            serve(
                app,
                drain=app.streams.drain,
                host="127.0.0.1",
                port=port,
                stop=stop,
                listening=listening,
                on_ready=answering.set,
            )
        )
        try:
            await answering.wait()
            with counts.of_statements():
                yield Stack(f"http://127.0.0.1:{port}", address, folder, {}), counts
        finally:
            stop.set()
            await serving
