"""Temporal's remote codec: its UI and CLI have payloads decrypted here, for the few users who may read all of them."""

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
from gateway.sessions.session_cache import token_from_request
from infrastructure.observability.audit import Refusal, record_refusal
from infrastructure.temporal.codec import EncryptionCodec, KeyRing, PayloadDecryptionFailed
from resolvers.clients.auth import AuthClient
from resolvers.tokens import token_hash

CODEC_PATH = "/codec"
"""What Temporal's UI and CLI are given as the address of the codec; they add ``/decode``."""

_LONGEST_NAMESPACE = 100
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

log = structlog.get_logger()


def codec_routes(
    keys: KeyRing | None, readers: Sequence[str], origins: Sequence[str], auth: Callable[[], AuthClient]
) -> list[BaseRoute]:
    """POST /codec/decode, where there are keys and ``readers``: the ids of the users who may ask.

    A payload does not say of which tenant it is, so no role in a tenant opens this. ``origins`` are those whose pages
    may ask, by CORS. There is no ``/encode``: nobody needs it to read.
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
    decode = CodecEndpoint(keys, frozenset(readers), frozenset(origins), auth)
    return [Route(f"{CODEC_PATH}/decode", decode.answer, methods=["POST", "OPTIONS"], middleware=[cors])]


_REFUSALS = {401: Refusal.UNAUTHENTICATED, 403: Refusal.FORBIDDEN, 413: Refusal.BODY}


class CodecEndpoint:
    """Each answer and each refusal is a line in the log: who asked, and for how much under which keys."""

    def __init__(
        self, keys: KeyRing, readers: frozenset[str], origins: frozenset[str], auth: Callable[[], AuthClient]
    ) -> None:
        self._codec = EncryptionCodec(keys)
        self._readers = readers
        self._origins = origins
        self._auth = auth

    async def answer(self, request: Request) -> Response:
        """As the protocol has it: Payloads in protobuf's JSON, there and back; a refusal says why in ``message``."""
        if not self._is_meant(request):
            return _refused(403, "This origin may not ask.")
        try:
            session = await _session(self._auth(), request)
        except NotSignedIn as error:
            return _refused(401, error.message)
        except DomainError as error:
            return _refused(error.http_status, error.message)
        who = {"user_id": session.user_id, "session_id": session.id, "namespace": _namespace(request)}
        if session.user_id not in self._readers:
            log.warning("payloads were not decoded", **who)
            return _refused(403, "You may not read what Temporal stores.")
        try:
            asked = _payloads(await request.body())
            plain = await self._codec.decode(asked.payloads)
        except RequestBodyTooLarge:
            return _refused(413, "The request is too large.")
        except (ParseError, ValueError, RecursionError):
            return _refused(400, "The body is not Payloads in JSON.")
        except PayloadDecryptionFailed as error:
            return _refused(400, str(error))
        keys = sorted({_plain(payload.metadata.get("key-id", b"")) for payload in asked.payloads})
        log.info("payloads were decoded", payloads=len(plain), keys=keys, **who)
        return JSONResponse(MessageToDict(Payloads(payloads=plain)), headers=_HEADERS)

    def _is_meant(self, request: Request) -> bool:
        """A cookie comes by itself, whatever page asks, so it counts only from those that may; a header is meant."""
        return "authorization" in request.headers or request.headers.get("origin") in self._origins


async def _session(auth: AuthClient, request: Request) -> Session:
    """By the auth service's own word, not the edge's copy: who is signed out reads nothing for even a second."""
    token = token_from_request(request)
    if token is None:
        raise NotSignedIn()
    caller = Caller(request_id=request.state.request_id)
    return await auth.get_current_session(caller, token_hash(token))


def _payloads(body: bytes) -> Payloads:
    """Raises ParseError, ValueError or RecursionError where the body is none."""
    told = json.loads(body)
    if not isinstance(told, dict):
        raise ValueError("The body is no object.")
    return ParseDict(told, Payloads(), ignore_unknown_fields=True)


def _namespace(request: Request) -> str:
    return _plain(request.headers.get("x-namespace", "").encode())


def _plain(text: bytes) -> str:
    """Fit for the log, whoever sent it."""
    return re.sub(r"[^A-Za-z0-9._-]", "?", text.decode(errors="replace"))[:_LONGEST_NAMESPACE]


def _refused(status: int, message: str) -> Response:
    kind = _REFUSALS.get(status)
    if kind is not None:
        record_refusal(kind)
    return JSONResponse({"message": message}, status_code=status, headers=_HEADERS)
