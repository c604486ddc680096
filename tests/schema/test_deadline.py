"""What takes too long is ended, and the resolvers with it; what is followed lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import strawberry

from contracts.errors import ErrorCode
from schema.schema import Schema

TOO_LONG = {"code": ErrorCode.TIMEOUT.value}

ended: list[str] = []


@strawberry.type
class Query:
    @strawberry.field
    async def slow() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("slow")
            raise
        return 1


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count() -> AsyncGenerator[int]:
        for number in range(3):
            await asyncio.sleep(0.1)
            yield number


def schema() -> Schema:
    ended.clear()
    return Schema(Query, subscription=Subscription, execution_timeout_seconds=0.1)


async def told(text: str) -> list[Any]:
    results: Any = await schema().stream(text)
    async with aclosing(results):
        return [result async for result in results]


async def test_a_query_that_takes_too_long_ends_with_its_resolvers() -> None:
    result = await schema().execute("{ a: slow b: slow }")
    assert [error.extensions for error in result.errors or ()] == [TOO_LONG]
    assert ended == ["slow", "slow"]


async def test_so_does_one_over_a_stream() -> None:
    found = await told("{ slow }")
    assert [error.extensions for error in found[0].errors or ()] == [TOO_LONG]
    assert ended == ["slow"]


async def test_a_subscription_lasts_longer() -> None:
    assert [result.data for result in await told("subscription { count }")] == [{"count": n} for n in range(3)]
