"""Temporal's remote codec server: decrypts payloads for Temporal's UI and CLI, for a configured list of users."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

import structlog
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from temporalio.api.common.v1 import Payloads

from contracts.auth import Session
from contracts.callers import Caller
from contracts.errors import DomainError, NotSignedIn
from gateway.http.middleware import RequestBodyTooLarge
from gateway.sessions.request_credentials import token_from_request
from infrastructure.observability.audit import Refusal, record_refusal
from infrastructure.temporal.codec import EncryptionCodec, KeyRing, PayloadDecryptionFailed
from resolvers.clients.auth import AuthClient
from resolvers.tokens import token_hash

CODEC_PATH = "/codec"
"""The path of the codec endpoint that Temporal's UI and CLI are configured with; they append ``/decode``."""

_MAX_NAMESPACE_LENGTH = 100
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger()


def codec_routes(
    keys: KeyRing | None, readers: Sequence[str], origins: Sequence[str], auth: Callable[[], AuthClient]
) -> list[BaseRoute]:
    """Return the route ``POST /codec/decode``; none without ``keys`` or without ``readers``.

    A payload does not name its tenant, so no role in a tenant grants access. There is no route ``/encode``, because
    reading payloads does not require one.

    Args:
        readers: ids of the users who may decrypt payloads.
        origins: origins of the pages that may send requests by CORS.
        auth: returns the client of the auth service while the application runs.
    """
    if keys is None or not readers:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type", "x-namespace"],
        allow_credentials=True,
    )
    endpoint = CodecEndpoint(keys, frozenset(readers), frozenset(origins), auth)
    return [Route(f"{CODEC_PATH}/decode", endpoint.decode, methods=["POST", "OPTIONS"], middleware=[cors])]


_REFUSALS = {401: Refusal.UNAUTHENTICATED, 403: Refusal.FORBIDDEN, 413: Refusal.BODY}


class CodecEndpoint:
    """The endpoint that decrypts payloads. It logs the user, the number of payloads and the ids of their keys."""

    def __init__(
        self, keys: KeyRing, readers: frozenset[str], origins: frozenset[str], auth: Callable[[], AuthClient]
    ) -> None:
        self._codec = EncryptionCodec(keys)
        self._readers = readers
        self._origins = origins
        self._auth = auth

    async def decode(self, request: Request) -> Response:
        """Return the decrypted payloads of the request. Both bodies are ``Payloads`` in the JSON form of protobuf.

        A refused request is answered with a ``message`` that gives the reason.
        """
        if not self._is_allowed_origin(request):
            return _error_response(403, "This origin may not ask.")
        try:
            session = await _load_session(self._auth(), request)
        except NotSignedIn as error:
            return _error_response(401, error.message)
        except DomainError as error:
            return _error_response(error.http_status, error.message)
        log_fields = {"user_id": session.user_id, "session_id": session.id, "namespace": _namespace(request)}
        if session.user_id not in self._readers:
            log.warning("payload_decoding_refused", **log_fields)
            return _error_response(403, "You may not read what Temporal stores.")
        try:
            encrypted = _parse_payloads(await request.body())
            decrypted = await self._codec.decode(encrypted.payloads)
        except RequestBodyTooLarge:
            return _error_response(413, "The request is too large.")
        except (ParseError, ValueError, RecursionError):
            return _error_response(400, "The body is not Payloads in JSON.")
        except PayloadDecryptionFailed as error:
            return _error_response(400, str(error))
        keys = sorted({_loggable(payload.metadata.get("key-id", b"")) for payload in encrypted.payloads})
        log.info("payloads_decoded", payloads=len(decrypted), keys=keys, **log_fields)
        return JSONResponse(MessageToDict(Payloads(payloads=decrypted)), headers=_HEADERS)

    def _is_allowed_origin(self, request: Request) -> bool:
        """Return whether the request has an Authorization header or comes from an allowed origin.

        A browser attaches a cookie to the requests of any page, so a cookie alone does not prove the user's intention.
        """
        return "authorization" in request.headers or request.headers.get("origin") in self._origins


async def _load_session(auth: AuthClient, request: Request) -> Session:
    """Return the session from the auth service; a cached one could have ended within the last second."""
    token = token_from_request(request)
    if token is None:
        raise NotSignedIn()
    caller = Caller(request_id=request.state.request_id)
    return await auth.get_current_session(caller, token_hash(token))


def _parse_payloads(body: bytes) -> Payloads:
    """Parse ``Payloads`` in the JSON form of protobuf.

    Raises:
        ParseError, ValueError, RecursionError: the body has another form.
    """
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("The body is no object.")
    return ParseDict(value, Payloads(), ignore_unknown_fields=True)


def _namespace(request: Request) -> str:
    return _loggable(request.headers.get("x-namespace", "").encode())


def _loggable(text: bytes) -> str:
    """Return text of a client with a bounded length and with safe characters, so that it can be logged."""
    return re.sub(r"[^A-Za-z0-9._-]", "?", text.decode(errors="replace"))[:_MAX_NAMESPACE_LENGTH]


def _error_response(status: int, message: str) -> Response:
    refusal = _REFUSALS.get(status)
    if refusal is not None:
        record_refusal(refusal)
    return JSONResponse({"message": message}, status_code=status, headers=_HEADERS)
