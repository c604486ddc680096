"""Many concurrent dashboards succeed with few visibility requests to Temporal."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from uuid import uuid4

import httpx
import pytest

from tests.end_to_end.client import PASSWORD, Client, Json
from tests.stack import Stack

DASHBOARDS, DASHBOARDS_PER_SECOND = 400, 200
USERS = 8
DASHBOARD = """
{ viewer { dashboard {
  profile { id name } tenant { id name } lastUpdated recentFiles { id name owner { name } }
  activeOperations { id status startedBy { name } progress { fraction } }
} } }
"""
ONBOARD = """
mutation ($input: OnboardUserInput!) {
  onboardUser(input: $input) { operation { id status result { user { id } } error { message } } }
}
"""


async def onboarded_client(stack: Stack, ada: Client) -> Client:
    """Onboard a new user and return a client that is signed in."""
    email = f"{uuid4().hex}@example.com"
    new_user = {"email": email, "name": "Somebody new", "password": PASSWORD, "waitSeconds": 30}
    operation = (await ada.execute(ONBOARD, input=new_user))["onboardUser"]["operation"]
    assert operation["status"] == "COMPLETED", operation
    client = Client(stack)
    await client.log_in(email)
    return client


class VisibilityMetrics:
    """Counters of visibility requests, from the metrics of the Temporal server."""

    def __init__(self, stack: Stack) -> None:
        found = re.search(r"Metrics +(\S+)", (stack.data_dir / "stack.log").read_text())
        assert found
        self._url = found[1]

    async def list_requests(self) -> float:
        """Return the number of ListWorkflowExecutions requests so far."""
        return await self._sum(r'^service_requests\{.*operation="ListWorkflowExecutions".*\} (\S+)$')

    async def rejected_requests(self) -> float:
        """Return the number of requests that the server rejected because of its limits."""
        return await self._sum(r"^service_errors_resource_exhausted\{.*\} (\S+)$")

    async def _sum(self, pattern: str) -> float:
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(self._url)).text
        return sum(float(value) for value in re.findall(pattern, text, flags=re.MULTILINE))


async def query_at_rate(stack: Stack, clients: list[Client]) -> tuple[list[Json], list[float]]:
    """Query dashboards at a constant rate, independent of earlier responses.

    Returns:
        The responses, and the sorted response times in seconds.
    """
    limits = httpx.Limits(max_connections=100)
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as http:

        async def query(number: int) -> tuple[Json, float]:
            await asyncio.sleep(max(0.0, began + number / DASHBOARDS_PER_SECOND - time.monotonic()))
            sent_at = time.monotonic()
            headers = {"authorization": f"Bearer {clients[number % len(clients)].token}"}
            response = await http.post(stack.graphql, json={"query": DASHBOARD}, headers=headers)
            return response.json(), time.monotonic() - sent_at

        results = await asyncio.gather(*(query(number) for number in range(DASHBOARDS)))
    return [response for response, _ in results], sorted(seconds for _, seconds in results)


@pytest.mark.xdist_group("alone")
async def test_many_concurrent_dashboards_succeed(dev_stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    ada, metrics = Client(dev_stack), VisibilityMetrics(dev_stack)
    await ada.log_in("ada@example.com")
    clients = [await onboarded_client(dev_stack, ada) for _ in range(USERS)]
    rejected_requests = await metrics.rejected_requests()
    for cache_state in ("cold", "warm"):
        list_requests, began = await metrics.list_requests(), time.monotonic()
        responses, seconds = await query_at_rate(dev_stack, clients)
        duration_seconds, visibility_requests = time.monotonic() - began, await metrics.list_requests() - list_requests
        with capsys.disabled():
            sys.stdout.write(
                f"\n{DASHBOARDS} {cache_state} dashboards of {USERS} users in {duration_seconds:.1f} s: "
                f"{visibility_requests:.0f} visibility requests; p50 "
                f"{seconds[len(seconds) // 2]:.3f} s, p99 {seconds[len(seconds) * 99 // 100]:.3f} s\n"
            )
        assert [response for response in responses if "errors" in response] == []
        assert all(response["data"]["viewer"]["dashboard"]["profile"] for response in responses)
        assert visibility_requests <= USERS  # at most one per user whose list is not cached or has expired
    assert await metrics.rejected_requests() == rejected_requests
