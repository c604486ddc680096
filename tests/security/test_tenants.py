"""Ids of another tenant, of deleted objects and random ids get the same response, in every argument of type ID."""

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
from tests.security.id_arguments import CannotBeExercised, IdArgument, document, id_arguments
from tests.security.two_tenants import OBJECT_KINDS, OPERATIONS, RANDOM, TwoTenants, create_two_tenants, database_of
from tests.stack import Stack
from tests.workflows.saga_harness import FaultPlan, open_saga_harness

SCHEMA = read_schema(build_schema().as_str())
KINDS_BY_ARGUMENT = {"tenantId": ("ten",), "sessionId": ("ses",), "fileId": ("fil",), "uploadId": ("upl",)} | {
    "startedByIds": ("usr",),
    "targetIds": ("usr", "fil"),
}
"""The kinds of objects that an argument of this name identifies; other arguments accept every id."""
READ_ONLY_FIELDS = (
    "Query.node",
    "Query.operation",
    "Mutation.revokeSession",
    "Mutation.processFile",
    "Mutation.cancelOperation",
)
"""Fields that only read and start no operation."""
OF_OPERATIONS = ("operation", "cancelOperation", "retryOperation", "submitMfaCode")

ExecuteDocument = Callable[[str, str], Awaitable[str]]
"""Executes a document with an id; returns the whole response without parts that differ in each execution."""


def document_values(world_email: str) -> dict[str, str]:
    """Return values of required arguments other than ids."""
    return {
        "email": json.dumps(world_email),
        "password": json.dumps(PASSWORD),
        "code": '"123456"',
        "waitSeconds": "30",
    }


def kinds_for(argument: IdArgument) -> tuple[str, ...]:
    """Return the kinds of objects that the argument may identify."""
    if argument.field in OF_OPERATIONS:
        return OPERATIONS
    return KINDS_BY_ARGUMENT.get(argument.path[-1], (*OBJECT_KINDS, *OPERATIONS))


@pytest.mark.parametrize("argument", list(id_arguments(SCHEMA)), ids=str)
def test_every_id_in_the_schema_has_a_test_document(argument: IdArgument) -> None:
    assert "$id" in document(SCHEMA, argument, document_values("x"))
    assert kinds_for(argument)


def test_finds_ids_in_directives_and_nested_inputs() -> None:
    schema = read_schema(
        """
        directive @from(tenant: ID) on FIELD
        input Deep { inner: Deeper again: Deep } input Deeper { ids: [[ID!]!] other: String! }
        type Thing { of(parent: ID!): Int }
        type Query { thing(where: [Deep!], strange: Int!): Thing }
        """
    )
    found = {str(argument): argument for argument in id_arguments(schema)}
    assert set(found) == {"@from.(tenant)", "Thing.of(parent)", "Query.thing(where.inner.ids)"}
    for name, why in (("Thing.of(parent)", "not at a root"), ("Query.thing(where.inner.ids)", "needs other")):
        with pytest.raises(CannotBeExercised, match=why):
            document(schema, found[name], {"strange": "1"})
    written = document(schema, found["Query.thing(where.inner.ids)"], {"strange": "1", "other": '"x"'})
    assert written.startswith('query ($id: ID!) { thing(where: [{inner: {ids: [[$id]], other: "x"}}], strange: 1)')


def over_http(two_tenants: TwoTenants, http: httpx.AsyncClient, url: str) -> ExecuteDocument:
    """Return a function that executes documents over HTTP."""

    async def execute(query: str, id: str) -> str:
        response = await http.post(
            url,
            json={"query": query, "variables": {"id": id}},
            headers={"authorization": f"Bearer {two_tenants.viewer.token}"},
        )
        return without_variable_parts(response.json(), id)

    return execute


def filters_a_list(argument: IdArgument) -> bool:
    """Return whether the id is in a filter: a filter selects from the visible objects, so the list is empty."""
    return "filter" in argument.path


def filters_a_feed(argument: IdArgument) -> bool:
    """Return whether the id filters a feed, which never ends and whose work cannot be measured."""
    return argument.owner == "Subscription" and filters_a_list(argument)


def over_a_socket(
    two_tenants: TwoTenants, url: str, *, seconds: float = 30, is_endless: bool = False
) -> ExecuteDocument:
    """Return a function that executes documents on a websocket; an endless feed is read for ``seconds``."""

    async def execute(query: str, id: str) -> str:
        messages: list[Any] = []
        with suppress(TimeoutError) if is_endless else nullcontext():
            async with asyncio.timeout(seconds), graphql_socket(url, two_tenants.viewer.token) as socket:
                payload = {"query": query, "variables": {"id": id}}
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
                while is_endless or not messages or messages[-1]["type"] not in ("error", "complete"):
                    messages.append(json.loads(await socket.recv()))
        return without_variable_parts(messages, id)

    return execute


def without_variable_parts(response: object, id: str) -> str:
    """Return the response as JSON without the id, the request id and the trace."""

    def remove_variable_parts(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: remove_variable_parts(each) for name, each in value.items() if name not in ("requestId", "trace")
            }
        return [remove_variable_parts(each) for each in value] if isinstance(value, list) else value

    return json.dumps(remove_variable_parts(response)).replace(id, "THE ID")


def document_for(argument: IdArgument, two_tenants: TwoTenants) -> str:
    """Return the document for this argument."""
    return document(SCHEMA, argument, document_values(two_tenants.email))


@asynccontextmanager
async def document_executor(
    two_tenants: TwoTenants, stack: Stack
) -> AsyncIterator[Callable[[IdArgument], ExecuteDocument]]:
    """Yield a function that returns, for an argument, the way to execute its document."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        by_http, by_socket = over_http(two_tenants, http, stack.graphql), over_a_socket(two_tenants, stack.websocket)
        by_feed = over_a_socket(two_tenants, stack.websocket, seconds=0.7, is_endless=True)
        yield (
            lambda argument: (
                by_feed if filters_a_feed(argument) else by_socket if argument.owner == "Subscription" else by_http
            )
        )


def is_refusal(response: str) -> bool:
    """Return whether the response refuses the id; an invalid document would also get equal responses."""
    return '"NOT_FOUND"' in response or '"PERMISSION_DENIED"' in response


@pytest.fixture(params=["dev_stack", "separate_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The development stack, and one of separate processes."""
    stack: Stack = request.getfixturevalue(request.param)
    return stack


async def test_foreign_deleted_and_random_ids_get_the_same_response(stack: Stack) -> None:
    two_tenants = await create_two_tenants(stack, database_of(stack))
    differences = []
    async with document_executor(two_tenants, stack) as executor_for:
        for argument, kind in cases():
            responses = {
                origin: await executor_for(argument)(document_for(argument, two_tenants), id)
                for origin, id in two_tenants.ids[kind].items()
            }
            if len(set(responses.values())) > 1 or not (filters_a_list(argument) or is_refusal(responses[RANDOM])):
                differences.append(f"{argument} with {kind}: {responses}")
    assert "\n".join(differences) == ""


async def test_foreign_deleted_and_random_ids_cause_the_same_work(
    temporal_client: Temporal, temporal_address: str, tmp_path: Path
) -> None:
    """Equal calls of services, Temporal and the database, and equal CPU time, leave no timing side channel."""
    differences = []
    async with counted_stack(temporal_client, temporal_address, tmp_path) as (stack, counts):
        two_tenants = await create_two_tenants(stack, database_of(stack, "adx.sqlite3"))
        async with document_executor(two_tenants, stack) as executor_for:
            for argument, kind in (each for each in cases() if not filters_a_feed(each[0])):
                for times in (1, 3, 9):  # repeated because background work may cause a difference
                    calls_by_origin = {
                        origin: await minimal_work(
                            counts, executor_for(argument), document_for(argument, two_tenants), id, times
                        )
                        for origin, id in two_tenants.ids[kind].items()
                    }
                    is_equal = (
                        len({json.dumps(comparable(each), sort_keys=True) for each in calls_by_origin.values()}) == 1
                    )
                    if is_equal:
                        break
                else:
                    differences.append(f"{argument} with {kind}: {calls_by_origin}")
            for argument, kind in cases():
                if f"{argument.owner}.{argument.field}" in READ_ONLY_FIELDS and not await takes_the_same_cpu_time(
                    executor_for(argument), document_for(argument, two_tenants), two_tenants.ids[kind]
                ):
                    differences.append(f"{argument} with {kind} takes longer for one")
    assert "\n".join(differences) == ""


async def takes_the_same_cpu_time(execute: ExecuteDocument, query: str, ids: dict[str, str]) -> bool:
    """Return whether all ids take about the same CPU time of gateway, services and database.

    The ids are executed in turns; the measurement is repeated because other work may run in between.
    """
    for repetitions in (5, 15, 31):
        cpu_seconds: dict[str, list[float]] = {id: [] for id in ids.values()}
        for _ in range(repetitions):
            for id, times in cpu_seconds.items():
                before = time.process_time()
                await execute(query, id)
                times.append(time.process_time() - before)
        median_seconds = sorted(statistics.median(times) for times in cpu_seconds.values())
        if median_seconds[-1] < 1.3 * median_seconds[0]:
            return True
    return False


def cases() -> list[tuple[IdArgument, str]]:
    """Return all combinations of arguments and kinds of objects."""
    return [(argument, kind) for argument in id_arguments(SCHEMA) for kind in kinds_for(argument)]


def comparable(calls: dict[str, int]) -> dict[str, int]:
    """Return the counts in a comparable form.

    After a start the number of state reads varies and counts as one. The record of operations is then written in
    batches in the background, of which no client waits: whether a write falls into the measured time is chance.
    """
    if "temporal start" not in calls:
        return calls
    return dict.fromkeys((name for name in calls if not is_record_access(name)), 1)


def is_record_access(name: str) -> bool:
    """Return whether the call is one of the workflow service or a statement about its tables."""
    return name.startswith("/operations/") or (name.startswith("sql ") and "operations_" in name)


async def minimal_work(counts: Counts, execute: ExecuteDocument, query: str, id: str, times: int) -> dict[str, int]:
    """Return the calls that occur in every repetition, without unrelated background calls."""
    minimum: Counter[str] | None = None
    for _ in range(times):
        with counts.counting() as counted:
            await execute(query, id)
        minimum = counted if minimum is None else minimum & counted
    return dict(minimum or {})


@asynccontextmanager
async def counted_stack(temporal: Temporal, address: str, folder: Path) -> AsyncIterator[tuple[Stack, Counts]]:
    """Run gateway, services and workers in this process, with counters of their calls."""
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
            with counts.counting_statements():
                yield Stack(f"http://127.0.0.1:{port}", address, folder, {}), counts
        finally:
            stop.set()
            await serving
