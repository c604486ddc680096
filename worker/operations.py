"""``python -m worker.operations delete ID``: delete a closed operation, from the record and from Temporal."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from pydantic import AfterValidator, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from temporalio.service import RPCError
from tortoise.exceptions import BaseORMException

from activities.operations.deletion import OperationDeletion, OperationOpen
from activities.operations.service import OperationsService
from contracts.errors import OperationNotFound
from contracts.operations import kind_of
from infrastructure.observability.audit import AuditEvent, record_audit_event
from infrastructure.observability.logging import configure_logs
from infrastructure.settings_validation import SecretDatabaseUrl, format_errors, valid_key_ring
from infrastructure.temporal.codec import KeyRing
from infrastructure.temporal.connection import connect, exit_process
from worker.database import database

_USAGE = "usage: python -m worker.operations delete ID"


class OperationsSettings(BaseSettings):
    """The settings of the command: those of the worker process ``operations`` for the database and Temporal."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    database_url: SecretDatabaseUrl
    temporal_address: str | None = None
    temporal_namespace: str | None = None
    codec_keys: Annotated[SecretStr, AfterValidator(valid_key_ring)] | None = None


async def delete(operation_id: str, settings: OperationsSettings) -> int:
    """Delete the operation; return the number of workflow runs that Temporal was asked to delete."""
    keys = KeyRing.parse(settings.codec_keys.get_secret_value()) if settings.codec_keys else None
    client = await connect(address=settings.temporal_address, namespace=settings.temporal_namespace, keys=keys)
    async with database(settings.database_url.get_secret_value()):
        removed = await OperationDeletion(client, OperationsService()).delete(operation_id)
    record_audit_event(AuditEvent.OPERATION_DELETED, operation=operation_id, runs=removed)
    return removed


def main(arguments: list[str]) -> int:
    """Return 0 once it is deleted, 1 if it is not (entirely), 2 for a wrong call or wrong settings."""
    if len(arguments) != 2 or arguments[0] != "delete":
        print(_USAGE, file=sys.stderr)
        return 2
    operation_id = arguments[1]
    if kind_of(operation_id) is None:
        print(f"{operation_id!r} is not the id of an operation.\n{_USAGE}", file=sys.stderr)
        return 2
    configure_logs()
    try:
        settings = OperationsSettings()
    except ValidationError as error:
        print(format_errors(error), file=sys.stderr)
        return 2
    try:
        removed = asyncio.run(delete(operation_id, settings))
    except OperationNotFound:
        problem = "does not exist, neither in the record nor in Temporal"
    except OperationOpen as error:
        problem = f"is not deleted: {error}. Cancel it, or wait for its end"
    except (RPCError, RuntimeError, OSError, BaseORMException) as error:
        problem = f"is not deleted, or only in part; run this command again: {error}"
    else:
        print(f"Operation {operation_id} is deleted; Temporal deletes its {removed} run(s) in the background.")
        return 0
    print(f"Operation {operation_id} {problem}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
