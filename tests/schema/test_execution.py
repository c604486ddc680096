"""Repeated executions of a subscription do not grow the memory."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncGenerator

import strawberry

from schema.execution.executor import PerEventCacheExecutor

EVENTS = 300


@strawberry.type
class Inner:
    number: int


@strawberry.type
class Outer:
    inner: Inner


@strawberry.type
class Query:
    unused: int = 0


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self) -> AsyncGenerator[Outer]:
        for number in range(EVENTS):
            yield Outer(inner=Inner(number=number))


async def test_events_of_a_subscription_leave_no_objects() -> None:
    schema = strawberry.Schema(query=Query, subscription=Subscription, execution_context_class=PerEventCacheExecutor)
    numbers: list[int] = []
    samples: list[Counter[str]] = []
    async for result in await schema.subscribe("subscription { count { inner { number } } }"):
        assert result.data is not None
        numbers.append(result.data["count"]["inner"]["number"])
        if len(numbers) in (EVENTS // 2, EVENTS):
            samples.append(_object_counts())
    assert numbers == list(range(EVENTS))
    before, after = samples
    assert sum((after - before).values()) < EVENTS // 2, (after - before).most_common(5)


def _object_counts() -> Counter[str]:
    """Count the live objects by type after a garbage collection."""
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects())
