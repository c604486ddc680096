"""Many dashboards at once: all are answered, and Temporal's visibility is asked as rarely as it allows."""

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

DASHBOARDS, A_SECOND = 400, 200
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


async def newcomer(stack: Stack, ada: Client) -> Client:
    email = f"{uuid4().hex}@example.com"
    wanted = {"email": email, "name": "Somebody new", "password": PASSWORD, "waitSeconds": 30}
    operation = (await ada.ask(ONBOARD, input=wanted))["onboardUser"]["operation"]
    assert operation["status"] == "COMPLETED", operation
    client = Client(stack)
    await client.log_in(email)
    return client


class Metrics:
    """What the Temporal server itself counted of requests to its visibility."""

    def __init__(self, stack: Stack) -> None:
        found = re.search(r"Metrics +(\S+)", (stack.data_dir / "stack.log").read_text())
        assert found
        self._url = found[1]

    async def listed(self) -> float:
        return await self._sum(r'^service_requests\{.*operation="ListWorkflowExecutions".*\} (\S+)$')

    async def refused(self) -> float:
        return await self._sum(r"^service_errors_resource_exhausted\{.*\} (\S+)$")

    async def _sum(self, pattern: str) -> float:
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(self._url)).text
        return sum(float(value) for value in re.findall(pattern, text, flags=re.MULTILINE))


async def fire(stack: Stack, clients: list[Client]) -> tuple[list[Json], list[float]]:
    """The answers to dashboards that are asked for at an even pace, whether or not those before them were answered."""
    limits = httpx.Limits(max_connections=100)
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as http:

        async def one(number: int) -> tuple[Json, float]:
            await asyncio.sleep(max(0.0, began + number / A_SECOND - time.monotonic()))
            asked = time.monotonic()
            headers = {"authorization": f"Bearer {clients[number % len(clients)].token}"}
            answer = await http.post(stack.graphql, json={"query": DASHBOARD}, headers=headers)
            return answer.json(), time.monotonic() - asked

        answered = await asyncio.gather(*(one(number) for number in range(DASHBOARDS)))
    return [answer for answer, _ in answered], sorted(seconds for _, seconds in answered)


@pytest.mark.xdist_group("alone")
async def test_none_of_many_dashboards_fails(dev_stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    ada, metrics = Client(dev_stack), Metrics(dev_stack)
    await ada.log_in("ada@example.com")
    clients = [await newcomer(dev_stack, ada) for _ in range(USERS)]
    refused = await metrics.refused()
    for temperature in ("cold", "warm"):
        listed, began = await metrics.listed(), time.monotonic()
        answers, seconds = await fire(dev_stack, clients)
        took, requests = time.monotonic() - began, await metrics.listed() - listed
        with capsys.disabled():
            sys.stdout.write(
                f"\n{DASHBOARDS} {temperature} dashboards of {USERS} users in {took:.1f} s: {requests:.0f} visibility "
                f"requests; p50 {seconds[len(seconds) // 2]:.3f} s, p99 {seconds[len(seconds) * 99 // 100]:.3f} s\n"
            )
        assert [answer for answer in answers if "errors" in answer] == []
        assert all(answer["data"]["viewer"]["dashboard"]["profile"] for answer in answers)
        assert requests <= USERS  # at most once for each whose list is cold, or grew old meanwhile
    assert await metrics.refused() == refused
