"""The connection to Temporal that every process uses: data converter, client and search attributes."""

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
from infrastructure.startup_errors import TemporalUnreachable, error_reason
from infrastructure.temporal.codec import EncryptionCodec, KeyRing

SEARCH_ATTRIBUTES = {
    ATTRIBUTE_KIND: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ATTRIBUTE_USER: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ATTRIBUTE_TENANTS: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
}


class EncryptedFailureConverter(DefaultFailureConverter):
    """Moves message and stack trace of failures into the encrypted part, so that histories contain no plain text."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


def data_converter(keys: KeyRing | None) -> DataConverter:
    """Return a converter that writes pydantic models as JSON and, with keys, encrypts payloads, memos and failures."""
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
    """Connect to Temporal and return the client of this process.

    Values that are None come from the SDK's standard variables (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_API_KEY,
    TEMPORAL_TLS_...) or its configuration file.

    Args:
        address: Host and port of Temporal.
        namespace: The namespace.
        keys: Encrypts the data that Temporal stores; None stores plain text.
        interceptors: Interceptors of the client.
        retry: Retries of calls while Temporal does not respond; None: the SDK's default of ten seconds.
        runtime: The runtime of the SDK; None: the default runtime of the process.

    Raises:
        TemporalUnreachable: Temporal does not respond, or the configuration is invalid.
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
        raise TemporalUnreachable(str(config["target_host"]), _connection_error_reason(error)) from error


def _connection_error_reason(error: Exception) -> str:
    """Return the message within an error of the SDK, which is the text of a Rust structure."""
    match = re.search(r'message: "([^"]+)"', str(error))
    return match[1] if match else error_reason(error)


async def ensure_search_attributes(client: Client, *, timeout_seconds: float = 30) -> None:
    """Register missing search attributes in Temporal and wait until the server lists them.

    Raises:
        TimeoutError: The server does not list them in time.
    """
    async with asyncio.timeout(timeout_seconds):
        while missing := await _missing_search_attributes(client):
            try:
                await client.operator_service.add_search_attributes(
                    AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
                )
            except RPCError as error:
                if error.status != RPCStatusCode.ALREADY_EXISTS:
                    raise
            await asyncio.sleep(0.1)


async def _missing_search_attributes(client: Client) -> dict[str, IndexedValueType.ValueType]:
    listing = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return {name: kind for name, kind in SEARCH_ATTRIBUTES.items() if name not in listing.custom_attributes}


def exit_process(status: int) -> NoReturn:
    """End a process that used Temporal's SDK with this exit status, without finalizing the interpreter.

    Threads of the SDK outlive its last client and worker. A thread that completes a call while the interpreter is
    finalized aborts the process (PyGILState_Release, status 134). Call this after all resources are closed.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
