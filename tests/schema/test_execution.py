"""What is executed again and again, for as long as somebody follows, grows no memory."""

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
    nothing: int = 0


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self) -> AsyncGenerator[Outer]:
        for number in range(EVENTS):
            yield Outer(inner=Inner(number=number))


async def test_an_event_of_a_subscription_leaves_nothing_behind() -> None:
    schema = strawberry.Schema(query=Query, subscription=Subscription, execution_context_class=PerEventCacheExecutor)
    numbers: list[int] = []
    grown: list[Counter[str]] = []
    async for result in await schema.subscribe("subscription { count { inner { number } } }"):
        assert result.data is not None
        numbers.append(result.data["count"]["inner"]["number"])
        if len(numbers) in (EVENTS // 2, EVENTS):
            grown.append(_alive())
    assert numbers == list(range(EVENTS))
    before, after = grown
    assert sum((after - before).values()) < EVENTS // 2, (after - before).most_common(5)


def _alive() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects())
