"""How long an operation will take, as its followers are told."""

from __future__ import annotations

import asyncio

from tests.end_to_end.client import Client

START = """
mutation ($id: ID!) { switchTenant(input: {tenantId: $id, waitSeconds: 0}) {
  sessionToken operation { id progress { estimatedSecondsRemaining } }
} }
"""
END = "query ($id: ID!) { operation(id: $id) { status progress { estimatedSecondsRemaining } } }"


async def test_what_earlier_runs_took_tells_how_long_the_next_one_will(ada: Client) -> None:
    acme, globex = await ada.tenant("Acme"), await ada.tenant("Globex")
    for tenant_id in (globex, acme):
        _, ada.token = await ada.switched(tenant_id)
    expected, target = None, globex
    async with asyncio.timeout(30):  # gateways exchange what they have measured every 10 s
        while expected is None:
            switch = (await ada.ask(START, id=target))["switchTenant"]
            expected = switch["operation"]["progress"]["estimatedSecondsRemaining"]
            await ada.to_its_end(switch["operation"]["id"])
            ada.token = switch["sessionToken"]
            target = acme if target == globex else globex
            await asyncio.sleep(0.1)
    assert 0 < expected < 30
    ended = (await ada.ask(END, id=switch["operation"]["id"]))["operation"]
    assert ended == {"status": "COMPLETED", "progress": {"estimatedSecondsRemaining": 0.0}}
