"""Executions that exceed the deadline end together with their resolvers; subscriptions have no deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import strawberry

from contracts.errors import ErrorCode
from schema.schema import Schema

TIMEOUT_EXTENSIONS = {"code": ErrorCode.TIMEOUT.value}

cancelled_resolvers: list[str] = []


@strawberry.type
class Query:
    """A query with one slow resolver."""

    @strawberry.field
    async def slow() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled_resolvers.append("slow")
            raise
        return 1


@strawberry.type
class Subscription:
    """A subscription that is slower than the deadline."""

    @strawberry.subscription
    async def count() -> AsyncGenerator[int]:
        for number in range(3):
            await asyncio.sleep(0.1)
            yield number


def schema() -> Schema:
    """Return a schema with a deadline of 0.1 seconds."""
    cancelled_resolvers.clear()
    return Schema(Query, subscription=Subscription, execution_timeout_seconds=0.1)


async def stream_results(text: str) -> list[Any]:
    """Execute the document as a stream and return all results."""
    results: Any = await schema().stream(text)
    async with aclosing(results):
        return [result async for result in results]


async def test_slow_query_times_out_with_its_resolvers() -> None:
    result = await schema().execute("{ a: slow b: slow }")
    assert [error.extensions for error in result.errors or ()] == [TIMEOUT_EXTENSIONS]
    assert cancelled_resolvers == ["slow", "slow"]


async def test_slow_query_over_a_stream_times_out_with_its_resolvers() -> None:
    results = await stream_results("{ slow }")
    assert [error.extensions for error in results[0].errors or ()] == [TIMEOUT_EXTENSIONS]
    assert cancelled_resolvers == ["slow"]


async def test_subscription_has_no_deadline() -> None:
    assert [result.data for result in await stream_results("subscription { count }")] == [
        {"count": n} for n in range(3)
    ]
