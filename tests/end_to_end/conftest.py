"""Fixtures: the development stack and a deployed stack, and clients that are signed in."""

from __future__ import annotations

import pytest

from tests.end_to_end.client import Client
from tests.stack import Stack


@pytest.fixture(params=["dev_stack", "deployed_stack"])
def stack(request: pytest.FixtureRequest) -> Stack:
    """The development stack, and a deployed stack of separate processes."""
    found: Stack = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def ada(stack: Stack) -> Client:
    """A client of Ada, an administrator of Acme and Globex, in Acme."""
    client = await _signed_in_client(stack, "ada@example.com")
    await client.ensure_tenant("Acme")
    return client


@pytest.fixture
async def grace(stack: Stack) -> Client:
    """A client of Grace, a member of Acme."""
    return await _signed_in_client(stack, "grace@example.com")


async def _signed_in_client(stack: Stack, email: str) -> Client:
    client = Client(stack)
    await client.log_in(email)
    return client
