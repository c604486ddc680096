"""The translation of exceptions of activities and workflows into errors of Temporal, and their retries."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import aiosmtplib
import asyncpg
import httpx
import pytest
import redis.exceptions
from obstore.exceptions import GenericError
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, RetryState
from temporalio.worker import Worker

from contracts.errors import DomainError, ErrorRecord, FieldError, all_errors, from_record, to_record
from tests.worker.failing import FailByItself, FailInAnActivity
from worker.error_classification import classify
from worker.error_translation import ErrorTranslationInterceptor
from worker.sandbox import workflow_runner
from workflows.options import EXTERNAL, NETWORK, TIMEOUT, RetrySchedule

SECRET = "postgres://user:secret@db.internal"
FAULTS = {
    "refused": ConnectionRefusedError(SECRET),
    "slow": TimeoutError(SECRET),
    "unknown": ValueError(SECRET),
    "external": GenericError(SECRET),
}


attempts: Counter[str] = Counter()
"""The number of attempts of each workflow."""


@activity.defn
async def fail(how: str) -> None:
    attempts[activity.info().workflow_id or ""] += 1
    if how in FAULTS:
        raise FAULTS[how]
    raise from_record(ErrorRecord.model_validate_json(how))


@pytest.fixture
async def queue(temporal_client: Client) -> AsyncIterator[str]:
    name = f"errors-{uuid4().hex}"
    async with Worker(
        temporal_client,
        task_queue=name,
        workflows=[FailInAnActivity, FailByItself],
        activities=[fail],
        workflow_runner=workflow_runner(),
        interceptors=[ErrorTranslationInterceptor()],
        workflow_failure_exception_types=[DomainError],
    ):
        yield name


async def failure_of(client: Client, queue: str, how: str, tries: int = 1) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as raised:
        await client.execute_workflow("FailInAnActivity", args=[how, tries], id=f"fail-{uuid4().hex}", task_queue=queue)
    error = raised.value.cause
    assert isinstance(error, ActivityError)
    assert isinstance(error.cause, ApplicationError)
    return error.cause


def full_record(kind: type[DomainError]) -> ErrorRecord:
    fields = (FieldError(path=("input", "name"), message="It is too long."),)
    return to_record(kind("Words.", fields=fields, attempts_left=2, retry_after=1.5, service="users"))


async def test_every_domain_error_of_an_activity_is_complete_and_not_retried(
    temporal_client: Client, queue: str
) -> None:
    for kind in all_errors():
        failure = await failure_of(temporal_client, queue, full_record(kind).model_dump_json(), tries=3)
        assert failure.type == kind.__name__
        assert failure.non_retryable
        assert failure.message == "Words."
        assert ErrorRecord.model_validate(failure.details[0]) == full_record(kind)


async def test_a_domain_error_of_a_workflow_ends_it_with_the_same_record(temporal_client: Client, queue: str) -> None:
    kind = next(all_errors())
    with pytest.raises(WorkflowFailureError) as raised:
        await temporal_client.execute_workflow(
            "FailByItself",
            full_record(kind),
            id=f"raise-{uuid4().hex}",
            task_queue=queue,
            run_timeout=timedelta(seconds=20),
        )
    assert isinstance(raised.value.cause, ApplicationError)
    assert raised.value.cause.type == kind.__name__
    assert ErrorRecord.model_validate(raised.value.cause.details[0]) == full_record(kind)


@pytest.mark.parametrize(("how", "retry"), [("refused", NETWORK), ("slow", TIMEOUT), ("unknown", NETWORK)])
async def test_a_fault_reveals_its_class_but_no_internal_details(
    temporal_client: Client, queue: str, how: str, retry: RetrySchedule
) -> None:
    failure = await failure_of(temporal_client, queue, how)
    assert failure.type == retry.name
    assert not failure.non_retryable  # the workflow decides
    assert "secret" not in str(failure)
    assert "secret" not in str(failure.details)


@pytest.mark.parametrize(("how", "tried"), [("refused", 3), ("slow", 2), ("unknown", 3)])
async def test_a_fault_is_final_after_the_attempts_of_its_class(
    temporal_client: Client, queue: str, how: str, tried: int
) -> None:
    handle = await temporal_client.start_workflow(
        "FailInAnActivity", args=[how, 5], id=f"fail-{uuid4().hex}", task_queue=queue
    )
    with pytest.raises(WorkflowFailureError) as raised:
        await handle.result()

    assert attempts[handle.id] == tried
    assert isinstance(raised.value.cause, ActivityError)
    assert isinstance(raised.value.cause.cause, ApplicationError)
    assert raised.value.cause.cause.non_retryable
    assert raised.value.cause.retry_state is RetryState.NON_RETRYABLE_FAILURE


@pytest.mark.parametrize(
    ("how", "tries", "intervals"),
    [("refused", 5, [1, 2]), ("slow", 5, [5]), ("external", 5, [2, 4]), ("refused", 6, [0.1, 0.2])],
)
async def test_delays_between_attempts_follow_the_class_or_else_the_retry_policy(
    temporal_client: Client, queue: str, how: str, tries: int, intervals: list[float]
) -> None:
    handle = await temporal_client.start_workflow(
        "FailInAnActivity", args=[how, tries], id=f"fail-{uuid4().hex}", task_queue=queue
    )
    found: dict[int, float] = {}
    async with asyncio.timeout(20):
        while len(found) < len(intervals):
            for pending in (await handle.describe()).raw_description.pending_activities:
                if pending.HasField("next_attempt_schedule_time"):
                    found[pending.attempt] = pending.current_retry_interval.ToTimedelta().total_seconds()
            await asyncio.sleep(0.02)
    await handle.terminate()

    assert [found[attempt] for attempt in sorted(found)] == pytest.approx(intervals, abs=0.01)


@pytest.mark.parametrize(
    ("error", "retry"),
    [
        (ConnectionResetError(), NETWORK),
        (socket.gaierror(), NETWORK),
        (httpx.ConnectError(""), NETWORK),
        (TimeoutError(), TIMEOUT),
        (httpx.ReadTimeout(""), TIMEOUT),
        (redis.exceptions.TimeoutError(), TIMEOUT),
        (redis.exceptions.ConnectionError(), NETWORK),
        (redis.exceptions.ResponseError(), EXTERNAL),
        (aiosmtplib.SMTPConnectTimeoutError(""), EXTERNAL),
        (asyncpg.ConnectionDoesNotExistError(), NETWORK),
        (GenericError(), EXTERNAL),
        (httpx.HTTPStatusError("", request=httpx.Request("GET", "http://x"), response=httpx.Response(500)), EXTERNAL),
        (KeyError(), NETWORK),
    ],
)
def test_classifies_errors_by_type(error: Exception, retry: RetrySchedule) -> None:
    assert classify(error).retry is retry


def test_classifies_an_error_by_its_cause() -> None:
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = TimeoutError()
    assert classify(wrapped).retry is TIMEOUT


def test_retry_schedules_are_as_documented() -> None:
    assert [(retry.max_attempts, retry.first_delay_seconds) for retry in (NETWORK, TIMEOUT, EXTERNAL)] == [
        (3, 1),
        (2, 5),
        (5, 2),
    ]
    assert [EXTERNAL.delay(attempt).total_seconds() for attempt in (1, 2, 3, 4)] == [2, 4, 8, 16]
