"""One call of a service: signed for its caller, with a deadline, its errors told apart."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from contracts.calls import Caller, CallSigner
from contracts.errors import DeadlineExceeded, DomainError, ErrorRecord, NotSignedIn, ServiceUnavailable, from_record

CALL_SECONDS = 5.0

_AWAY = frozenset((502, 503, 504))

Answer = TypeVar("Answer")


class ServiceCalls:
    """Calls of one service, over an HTTP client that others share."""

    def __init__(self, service: str, url: str, http: httpx.AsyncClient, signer: CallSigner) -> None:
        self._service = service
        self._url = url.rstrip("/")
        self._http = http
        self._signer = signer

    async def call(self, verb: str, caller: Caller, body: bytes | str, answer: TypeAdapter[Answer]) -> Answer:
        """POST ``/<service>/<verb>`` with a contract's JSON, and read the answer.

        Raises the DomainError that the service answers with, ServiceUnavailable where it cannot be reached,
        DeadlineExceeded where it does not answer within five seconds in all, and RuntimeError where its answer makes no
        sense.
        """
        try:
            async with asyncio.timeout(CALL_SECONDS):  # httpx counts each read alone, and over ASGI nothing
                response = await self._http.post(
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
        if response.status_code == httpx.codes.OK:
            return answer.validate_json(response.content)
        raise self._failure(verb, response)

    def _failure(self, verb: str, response: httpx.Response) -> Exception:
        trouble = RuntimeError(f"{self._service} answered {verb} with {response.status_code}.")
        try:
            error: DomainError = from_record(ErrorRecord.model_validate_json(response.content))
        except (ValidationError, LookupError):
            return ServiceUnavailable(service=self._service) if response.status_code in _AWAY else trouble
        # It refused the token of this process, not the client's: the two do not share one key.
        return trouble if type(error) is NotSignedIn else error
