"""Execution by graphql-core, without what it keeps of each event of a subscription."""

from __future__ import annotations

from typing import Any

from graphql.execution.execute import Executor
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext


class Execution(StrawberryGraphQLCoreExecutionContext):
    """graphql-core 3.3.2 shares one cache of selected fields between all events of a subscription, under keys that only
    one event finds: without this override memory grows with each event.
    """

    def build_per_event_executor(self, payload: object) -> Executor[Any]:
        executor = super().build_per_event_executor(payload)
        executor._relevant_sub_fields = {}  # noqa: SLF001 - there is no public way
        return executor
