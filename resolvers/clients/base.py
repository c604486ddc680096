"""One call of a service: signed for its caller, with a deadline and a breaker, its errors told apart."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from contracts.errors import DeadlineExceeded, DomainError, ErrorRecord, NotSignedIn, ServiceUnavailable, from_record
from contracts.service_tokens import Caller, ServiceTokenSigner
from infrastructure.circuit_breaker import CircuitBreaker

CALL_SECONDS = 5.0

_AWAY = frozenset((502, 503, 504))

Answer = TypeVar("Answer")


class ServiceClient:
    """Calls of one service, over an HTTP client that others share."""

    def __init__(
        self,
        service: str,
        url: str,
        http: httpx.AsyncClient,
        signer: ServiceTokenSigner,
        breaker: CircuitBreaker,
        *,
        seconds: float = CALL_SECONDS,
    ) -> None:
        self._service = service
        self._url = url.rstrip("/")
        self._http = http
        self._signer = signer
        self._breaker = breaker
        self._seconds = seconds

    async def call(self, verb: str, caller: Caller, body: bytes | str, answer: TypeAdapter[Answer]) -> Answer:
        """POST ``/<service>/<verb>`` with a contract's JSON, and read the answer.

        Raises the DomainError that the service answers with, ServiceUnavailable where it cannot be reached (or could
        not of late, and is left alone), DeadlineExceeded where it does not answer within ``seconds`` in all, and
        RuntimeError where its answer makes no sense.
        """
        async with self._breaker.watched():
            response = await self._post(verb, caller, body)
            told = _told(response)
            if response.is_server_error and told is None:
                raise self._trouble(verb, response)
        if told is not None:
            raise told
        if response.status_code != httpx.codes.OK:
            raise self._trouble(verb, response)
        return answer.validate_json(response.content)

    async def _post(self, verb: str, caller: Caller, body: bytes | str) -> httpx.Response:
        try:
            async with asyncio.timeout(self._seconds):  # httpx counts each read alone, and over ASGI nothing
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

    def _trouble(self, verb: str, response: httpx.Response) -> Exception:
        if response.status_code in _AWAY:
            return ServiceUnavailable(service=self._service)
        return RuntimeError(f"{self._service} answered {verb} with {response.status_code}.")


def _told(response: httpx.Response) -> DomainError | None:
    """The refusal that the service answers with; None where it does not refuse, or does not say why."""
    if response.status_code == httpx.codes.OK:
        return None
    try:
        error = from_record(ErrorRecord.model_validate_json(response.content))
    except (ValidationError, LookupError):
        return None
    # It refused the token of this process, not the client's: the two do not share one key.
    return None if type(error) is NotSignedIn else error
