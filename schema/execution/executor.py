"""The graphql-core executor of the schema, with a cache of selected fields for each subscription event."""

from __future__ import annotations

from typing import Any

from graphql.execution.execute import Executor
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext


class PerEventCacheExecutor(StrawberryGraphQLCoreExecutionContext):
    """An executor that releases the cache of selected fields after each event of a subscription.

    graphql-core 3.3.2 shares one cache between all events of a subscription, but its keys are found by one event only.
    Without this override, memory grows with each event.
    """

    def build_per_event_executor(self, payload: object) -> Executor[Any]:
        executor = super().build_per_event_executor(payload)
        executor._relevant_sub_fields = {}  # noqa: SLF001 - graphql-core has no public attribute for the cache
        return executor
