"""The product in both of its shapes, and people who are signed in."""

from __future__ import annotations

import pytest

from tests.end_to_end.client import Client
from tests.stack import Stack


@pytest.fixture(params=["dev_stack", "deployed_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def ada(stack: Stack) -> Client:
    """An administrator of Acme, where she works now, and of Globex."""
    client = await _signed_in(stack, "ada@example.com")
    await client.work_in("Acme")
    return client


@pytest.fixture
async def grace(stack: Stack) -> Client:
    """A member of Acme."""
    return await _signed_in(stack, "grace@example.com")


async def _signed_in(stack: Stack, email: str) -> Client:
    client = Client(stack)
    await client.log_in(email)
    return client
