"""The estimated remaining time of an operation."""

from __future__ import annotations

import asyncio

from tests.end_to_end.client import Client

START = """
mutation ($id: ID!) { switchTenant(input: {tenantId: $id, waitSeconds: 0}) {
  sessionToken operation { id progress { estimatedSecondsRemaining } }
} }
"""
OPERATION_QUERY = "query ($id: ID!) { operation(id: $id) { status progress { estimatedSecondsRemaining } } }"


async def test_estimates_the_duration_from_earlier_runs(ada: Client) -> None:
    acme, globex = await ada.tenant_id("Acme"), await ada.tenant_id("Globex")
    for tenant_id in (globex, acme):
        _, ada.token = await ada.switch_tenant(tenant_id)
    expected, target = None, globex
    async with asyncio.timeout(30):  # gateways exchange their measured durations every 10 s
        while expected is None:
            switch = (await ada.execute(START, id=target))["switchTenant"]
            expected = switch["operation"]["progress"]["estimatedSecondsRemaining"]
            await ada.wait_for_final_state(switch["operation"]["id"])
            ada.token = switch["sessionToken"]
            target = acme if target == globex else globex
            await asyncio.sleep(0.1)
    assert 0 < expected < 30
    ended = (await ada.execute(OPERATION_QUERY, id=switch["operation"]["id"]))["operation"]
    assert ended == {"status": "COMPLETED", "progress": {"estimatedSecondsRemaining": 0.0}}
