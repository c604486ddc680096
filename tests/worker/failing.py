"""Workflows that fail as their arguments say, in a module that the workflow sandbox can import."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from contracts.errors import ErrorRecord, from_record


@workflow.defn
class FailInAnActivity:
    @workflow.run
    async def run(self, how: str, tries: int) -> None:
        await workflow.execute_activity(
            "fail",
            how,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(seconds=0.1), maximum_attempts=tries),
        )


@workflow.defn
class FailByItself:
    @workflow.run
    async def run(self, record: ErrorRecord) -> None:
        raise from_record(record)
