"""Calls of a service over HTTP, with a signed caller, a deadline, a circuit breaker and typed errors."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from contracts.callers import Caller
from contracts.errors import DeadlineExceeded, DomainError, ErrorRecord, NotSignedIn, ServiceUnavailable, from_record
from infrastructure.circuit_breaker import CircuitBreaker
from infrastructure.signing.service_tokens import ServiceTokenSigner

CALL_TIMEOUT_SECONDS = 5.0

_UNAVAILABLE_STATUS_CODES = frozenset((502, 503, 504))

Result = TypeVar("Result")


class ServiceClient:
    """Calls the endpoints of one service.

    Args:
        service: the name of the service, which is part of each URL.
        url: the base URL of the service.
        http: the HTTP client, which may be shared.
        signer: signs the principal of each call.
        breaker: the circuit breaker of the service.
        timeout_seconds: deadline of a call.
    """

    def __init__(
        self,
        service: str,
        url: str,
        http: httpx.AsyncClient,
        signer: ServiceTokenSigner,
        breaker: CircuitBreaker,
        *,
        timeout_seconds: float = CALL_TIMEOUT_SECONDS,
    ) -> None:
        self._service = service
        self._url = url.rstrip("/")
        self._http = http
        self._signer = signer
        self._breaker = breaker
        self._timeout_seconds = timeout_seconds

    async def call(self, verb: str, caller: Caller, body: bytes | str, result: TypeAdapter[Result]) -> Result:
        """Send ``POST /<service>/<verb>`` and return the result.

        Args:
            verb: the name of the endpoint.
            caller: the principal of the call.
            body: the JSON of the endpoint's contract.
            result: the type of the response.

        Raises:
            DomainError: the error with which the service responds.
            ServiceUnavailable: the service cannot be reached, or its circuit breaker is open.
            DeadlineExceeded: the service did not respond within the deadline.
            RuntimeError: the response is neither a result nor a domain error.
        """
        async with self._breaker.guard():
            response = await self._post(verb, caller, body)
            error = _domain_error(response)
            if response.is_server_error and error is None:
                raise self._unexpected_response(verb, response)
        if error is not None:
            raise error
        if response.status_code != httpx.codes.OK:
            raise self._unexpected_response(verb, response)
        return result.validate_json(response.content)

    async def _post(self, verb: str, caller: Caller, body: bytes | str) -> httpx.Response:
        try:
            async with asyncio.timeout(
                self._timeout_seconds
            ):  # the timeout of httpx applies to each read, and not at all over ASGI
                return await self._http.post(
                    f"{self._url}/{self._service}/{verb}",
                    content=body,
                    headers={
                        "authorization": f"Bearer {self._signer.sign(caller)}",
                        "content-type": "application/json",
                        "x-request-id": caller.request_id,
                    },
                )
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ServiceUnavailable(service=self._service) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise DeadlineExceeded(service=self._service) from error
        except httpx.TransportError as error:
            raise ServiceUnavailable(service=self._service) from error

    def _unexpected_response(self, verb: str, response: httpx.Response) -> Exception:
        if response.status_code in _UNAVAILABLE_STATUS_CODES:
            return ServiceUnavailable(service=self._service)
        return RuntimeError(f"{self._service} answered {verb} with {response.status_code}.")


def _domain_error(response: httpx.Response) -> DomainError | None:
    """Return the domain error in the response; None if the response is a result or contains no domain error."""
    if response.status_code == httpx.codes.OK:
        return None
    try:
        error = from_record(ErrorRecord.model_validate_json(response.content))
    except (ValidationError, LookupError):
        return None
    # The service rejected the token of this process (different service keys), not the session of the client.
    return None if type(error) is NotSignedIn else error
