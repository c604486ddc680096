"""How every process speaks to Temporal: one data converter, one connect, the task queues and the search attributes."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client, Interceptor
from temporalio.common import HeaderCodecBehavior
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import Runtime
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from contracts.operations import ATTRIBUTE_KIND, ATTRIBUTE_TENANTS, ATTRIBUTE_USER
from infrastructure.startup import TemporalUnreachable, reason_of
from infrastructure.temporal.codec import EncryptionCodec, KeyRing

SEARCH_ATTRIBUTES = {
    ATTRIBUTE_KIND: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ATTRIBUTE_USER: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ATTRIBUTE_TENANTS: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
}


class EncryptedFailureConverter(DefaultFailureConverter):
    """Moves a failure's message and stack trace into the encrypted part, so that histories hold no plain text of it."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


def data_converter(keys: KeyRing | None) -> DataConverter:
    """Pydantic contracts as JSON; with keys, every payload, memo and failure encrypted."""
    if keys is None:
        return pydantic_data_converter
    return dataclasses.replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=EncryptedFailureConverter,
    )


_DEFAULT_ADDRESS = "localhost:7233"


async def connect(
    *,
    address: str | None,
    namespace: str | None,
    keys: KeyRing | None,
    interceptors: Sequence[Interceptor] = (),
    retry: RetryConfig | None = None,
    runtime: Runtime | None = None,
) -> Client:
    """A client for this process. What is None comes from the SDK's standard variables (TEMPORAL_ADDRESS,
    TEMPORAL_NAMESPACE, TEMPORAL_API_KEY, TEMPORAL_TLS_...) or its profile file.

    ``retry``: how long a call is tried while nobody answers; None: ten seconds, as the SDK does. ``runtime``: a
    runtime of the SDK other than everybody's.

    Raises:
        TemporalUnreachable: Temporal does not answer.
    """
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", _DEFAULT_ADDRESS)
    if address is not None:
        config["target_host"] = address
    if namespace is not None:
        config["namespace"] = namespace
    try:
        return await Client.connect(
            **config,
            data_converter=data_converter(keys),
            header_codec_behavior=HeaderCodecBehavior.CODEC,
            interceptors=interceptors,
            retry_config=retry,
            runtime=runtime,
        )
    except (RuntimeError, ValueError) as error:
        raise TemporalUnreachable(str(config["target_host"]), _why(error)) from error


def _why(error: Exception) -> str:
    """Return what the SDK found, without the Rust structures around it."""
    found = re.search(r'message: "([^"]+)"', str(error))
    return found[1] if found else reason_of(error)


async def ensure_search_attributes(client: Client, *, deadline_seconds: float = 30) -> None:
    """Register the search attributes where they are missing and wait until the server shows them."""
    async with asyncio.timeout(deadline_seconds):
        while missing := await _missing(client):
            try:
                await client.operator_service.add_search_attributes(
                    AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
                )
            except RPCError as error:
                if error.status != RPCStatusCode.ALREADY_EXISTS:
                    raise
            await asyncio.sleep(0.1)


async def _missing(client: Client) -> dict[str, IndexedValueType.ValueType]:
    listing = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return {name: kind for name, kind in SEARCH_ATTRIBUTES.items() if name not in listing.custom_attributes}


def exit_process(status: int) -> NoReturn:
    """End a process that spoke to Temporal, once all that is ours is closed.

    Threads of the SDK outlive its last client and worker, and one that answers while the interpreter is taken down
    aborts the process (PyGILState_Release, status 134). So the interpreter is not taken down.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
