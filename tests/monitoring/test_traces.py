"""Traces: one trace per operation from the browser to the SQL statements, without secrets."""

from __future__ import annotations

import json
import secrets
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from contracts.base import new_id
from tests.collector import CollectedSpan, Collector
from tests.end_to_end.client import Client
from tests.monitoring.test_audit import wait_for_line
from tests.stack import Stack

SWITCH = """
mutation ($id: ID!) { switchTenant(input: {tenantId: $id, waitSeconds: 20}) { operation { id status } } }
"""


def traceparent() -> tuple[str, str]:
    """Return the header of a new trace, and the id of the trace."""
    trace = secrets.token_hex(16)
    return f"00-{trace}-{secrets.token_hex(8)}-01", trace


async def post(client: Client, stack: Stack, header: str, document: str, **variables: object) -> Any:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        answer = await http.post(
            stack.graphql,
            json={"query": document, "variables": variables},
            headers={"authorization": f"Bearer {client.token}", "traceparent": header},
        )
    return answer.json()


def path(span: CollectedSpan, spans: list[CollectedSpan]) -> list[str]:
    """Return process and name of each span from the root to this span."""
    by_id = {each.id: each for each in spans}
    names = [f"{span.process} {span.name}"]
    while (span.parent) in by_id:
        span = by_id[span.parent]
        names.append(f"{span.process} {span.name}")
    return names[::-1]


@pytest.fixture
def collector(deployed_stack: Stack) -> Collector:
    assert deployed_stack.collector is not None
    return deployed_stack.collector


@pytest.fixture
async def ada(deployed_stack: Stack) -> Client:
    client = Client(deployed_stack)
    await client.log_in("ada@example.com")
    return client


async def test_one_trace_connects_browser_gateway_steps_and_sql_statements(
    ada: Client, deployed_stack: Stack, collector: Collector
) -> None:
    there = await ada.tenant_id("Globex" if await ada.current_tenant() == "Acme" else "Acme")
    header, trace = traceparent()
    answer = await post(ada, deployed_stack, header, SWITCH, id=there)
    operation = answer["data"]["switchTenant"]["operation"]
    assert operation["status"] == "COMPLETED"

    def is_complete(spans: list[CollectedSpan]) -> bool:
        names = {span.name for span in spans}
        return names >= {"mutation switchTenant", "CompleteWorkflow:SwitchTenant", "RunActivity:replace_session"}

    spans = collector.wait_for(trace, is_complete)
    (mutation,) = (span for span in spans if span.name == "mutation switchTenant")
    assert mutation.parent == header.split("-")[2]
    paths = [path(span, spans) for span in spans]
    start = ["gateway mutation switchTenant", "gateway StartWorkflow:SwitchTenant"]
    assert [*start, "worker-operations RunWorkflow:SwitchTenant"] in paths
    step = [
        *start,
        "worker-operations StartActivity:replace_session",
        "worker-auth RunActivity:replace_session",
        "worker-auth UPDATE auth_session",
    ]
    assert step in paths
    call = ["gateway mutation switchTenant", *["POST /auth/get_current_session"] * 2, "SELECT auth_session"]
    assert [name.split(" ", 1)[1] for name in call[:1]] + call[1:] in [
        [name.split(" ", 1)[1] for name in each] for each in paths
    ]
    (run,) = (span for span in spans if span.name == "RunActivity:replace_session")
    assert run.attributes["temporalWorkflowID"] == operation["id"]
    assert run.attributes["adx.kind"] == "TENANT_SWITCH"
    assert {span.process for span in spans} >= {"gateway", "worker-operations", "worker-auth", "worker-tenants"}
    line = await wait_for_line(
        deployed_stack,
        lambda line: line["event"] == "audit.tenant_switched" and line.get("workflow_id") == operation["id"],
    )
    assert line["trace_id"] == trace


async def test_span_contains_the_error_code_and_no_client_text(
    ada: Client, deployed_stack: Stack, collector: Collector
) -> None:
    header, trace = traceparent()
    words = [secrets.token_hex(12) for _ in range(4)]
    document = (
        f'query N{words[0]} ($id: ID!) {{ n{words[1]}: node(id: $id) {{ id }} file: node(id: "{words[2]}") {{ id }} }}'
    )
    await post(ada, deployed_stack, header, document, id=f"fil_{words[3]}")
    header_of_switch, trace_of_switch = traceparent()
    answer = await post(ada, deployed_stack, header_of_switch, SWITCH.replace("20", "-1"), id="nothing")
    code = answer["errors"][0]["extensions"]["code"]

    collector.wait_for(trace, lambda spans: "query node node" in {span.name for span in spans})
    (refused,) = collector.wait_for(
        trace_of_switch, lambda spans: "mutation switchTenant" in {span.name for span in spans}
    )
    assert refused.attributes["graphql.codes"] == code
    everything = b"".join(collector.bodies)
    assert not [word for word in [*words, str(ada.token)] if word.encode() in everything]


async def test_span_of_a_failing_step_has_the_error_class_without_message(
    ada: Client, deployed_stack: Stack, collector: Collector
) -> None:
    header, trace = traceparent()
    answer = await post(ada, deployed_stack, header, SWITCH, id=new_id("ten"))
    assert answer["data"]["switchTenant"]["operation"]["status"] == "FAILED"
    spans = collector.wait_for(trace, lambda spans: any(span.name.startswith("CompleteWorkflow") for span in spans))
    failed = [span for span in spans if span.events]
    assert failed
    assert {event for span in failed for event in span.events} == {"exception"}
    assert b"exception.message" not in b"".join(collector.bodies)
    assert b"exception.stacktrace" not in b"".join(collector.bodies)


async def test_subscription_is_one_span_regardless_of_its_results(
    ada: Client, deployed_stack: Stack, collector: Collector
) -> None:
    header, trace = traceparent()
    there = await ada.tenant_id("Globex" if await ada.current_tenant() == "Acme" else "Acme")
    operation_id, _ = await ada.start_switch(there)
    states = 0
    async with connect(deployed_stack.websocket, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None) as ws:
        await ws.send(json.dumps({"type": "connection_init", "payload": {"authorization": ada.token}}))
        await ws.send(
            json.dumps(
                {
                    "id": "1",
                    "type": "subscribe",
                    "payload": {
                        "query": "subscription ($id: ID!) { operation(id: $id) { status cursor } }",
                        "variables": {"id": operation_id},
                        "extensions": {"traceparent": header},
                    },
                }
            )
        )
        async for frame in ws:
            kind = json.loads(frame)["type"]
            states += kind == "next"
            if kind == "complete":
                break
    assert states > 1
    spans = collector.wait_for(trace, lambda spans: "subscription operation" in {span.name for span in spans})
    assert [span.name for span in spans if not span.name.startswith("POST /auth/")].count("subscription operation") == 1
    assert not [span for span in spans if span.name in ("receive", "send") or "websocket" in span.name]


async def test_internal_work_of_a_process_begins_no_trace(
    ada: Client, deployed_stack: Stack, collector: Collector
) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in (*deployed_stack.urls, *deployed_stack.monitoring.values()):
            await http.get(f"{url}/readyz")
    header, trace = traceparent()
    await post(ada, deployed_stack, header, "{ viewer { user { id } } }")
    collector.wait_for(trace, lambda spans: "query viewer" in {span.name for span in spans})
    roots = [span for span in collector.spans() if not span.parent]
    assert roots
    names = {span.name for span in roots} - {"query viewer", "mutation login", "mutation switchTenant"}
    assert not [name for name in names if name.startswith(("SELECT", "GET /readyz", "GET /healthz", "POST /auth"))]
