"""Documents that clients name by their hash: those of a manifest, and those that a client has sent once before."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from aiocache.base import BaseCache
from graphql import GraphQLError
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import RedisError

from schema.documents import Documents
from schema.errors import refusal

KEPT_SECONDS = 24 * 3600
MOST_SHARED = 4_096
"""Documents in the shared cache, each in a place that its hash names: what strangers send cannot fill it."""
MOST_AT_HAND = 500
MOST_CHARACTERS_AT_HAND = 2_000_000

_ANSWER_SECONDS = 0.5
_CACHE_IS_DOWN = (RedisError, OSError, asyncio.TimeoutError)
_HASH = re.compile(r"[0-9a-f]{64}")
_NAMED = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_MANIFEST = TypeAdapter(dict[str, str])


class BadManifest(ValueError):
    """The manifest of trusted documents cannot be used; says why."""


def digest(text: str) -> str:
    """The lower-case hex SHA-256 of the document, as clients name it."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def read_manifest(path: Path) -> Mapping[str, str]:
    """Documents by their hash. Raises BadManifest."""
    try:
        manifest = _MANIFEST.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadManifest(f"{path} is no manifest of documents: `make documents` writes one") from error
    for name, text in manifest.items():
        if digest(text) != name:
            raise BadManifest(f"{path} has a document that is not the one it is named for: {name}")
    return manifest


class NamedDocuments:
    """Finds the text of a request's document. ``trusted`` are those of the manifest; with ``only_trusted`` no others.

    Others are kept as Apollo's automatic persisted queries are, once they have been admitted: at hand, and in the
    cache, where there is one, for the other processes.
    """

    def __init__(
        self,
        documents: Documents,
        cache: BaseCache,
        trusted: Mapping[str, str] | None = None,
        *,
        only_trusted: bool = False,
    ) -> None:
        self._documents = documents
        self._cache = cache
        self._trusted = trusted or {}
        self._only_trusted = only_trusted
        self._at_hand: OrderedDict[str, str] = OrderedDict()
        self._characters = 0

    async def text(self, query: str | None, extensions: Mapping[str, object] | None) -> str | None:
        """The document, as it was sent or by its name; None where there is neither. Raises GraphQLError."""
        name = _name(extensions)
        if query:
            if name is not None and digest(query) != name:
                raise refusal("The document is not the one that its sha256Hash names.")
            if self._only_trusted and digest(query) not in self._trusted:
                raise refusal("Only documents of the manifest are carried out here.")
            if name is not None and name not in self._trusted and name not in self._at_hand:
                await self._learn(name, query)
            return query
        if name is None:
            if self._only_trusted:
                raise refusal("Only documents of the manifest are carried out here.")
            return query
        known = self._trusted.get(name)
        if known is None and not self._only_trusted:
            known = await self._recall(name)
        if known is None:
            raise _not_found()
        return known

    async def _learn(self, name: str, text: str) -> None:
        """Keep it, where it can be carried out."""
        try:
            if self._documents.read(text).errors:
                return
        except GraphQLError:
            return
        self._keep(name, text)
        with suppress(*_CACHE_IS_DOWN):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._cache.set(_place(name), text, ttl=KEPT_SECONDS)

    async def _recall(self, name: str) -> str | None:
        if name in self._at_hand:
            self._at_hand.move_to_end(name)
            return self._at_hand[name]
        text: str | None = None
        with suppress(*_CACHE_IS_DOWN):
            async with asyncio.timeout(_ANSWER_SECONDS):
                text = await self._cache.get(_place(name))
        if not isinstance(text, str) or digest(text) != name:  # another document has the place
            return None
        self._keep(name, text)
        return text

    def _keep(self, name: str, text: str) -> None:
        self._at_hand[name] = text
        self._characters += len(text)
        while len(self._at_hand) > MOST_AT_HAND or self._characters > MOST_CHARACTERS_AT_HAND:
            _, dropped = self._at_hand.popitem(last=False)
            self._characters -= len(dropped)


def with_document_id(body: dict[str, object]) -> dict[str, object]:
    """The request with its ``documentId``, as other clients than Apollo's name a document, among its extensions."""
    if "documentId" not in body:
        return body
    extensions = body.get("extensions") or {}
    if not isinstance(extensions, dict):
        return body
    return body | {"extensions": {"documentId": body["documentId"]} | extensions}


def _name(extensions: Mapping[str, object] | None) -> str | None:
    """The hash that the request names its document by. Raises GraphQLError where it is none."""
    if not extensions:
        return None
    persisted = extensions.get("persistedQuery")
    if isinstance(persisted, dict):
        persisted = cast(dict[str, object], persisted)
        name = persisted.get("sha256Hash")
        if persisted.get("version", 1) != 1 or not isinstance(name, str) or not _HASH.fullmatch(name):
            raise refusal("The persistedQuery needs version 1 and a sha256Hash in lower-case hex.")
        return name
    given = extensions.get("documentId")
    if given is None:
        return None
    named = _NAMED.fullmatch(given) if isinstance(given, str) else None
    if named is None:
        raise refusal("The documentId is not the SHA-256 of a document in lower-case hex.")
    return named[1]


def _place(name: str) -> str:
    return f"document:{int(name[:8], 16) % MOST_SHARED}"


def _not_found() -> GraphQLError:
    """In the words that Apollo Client knows: it sends the document with its next request."""
    return GraphQLError("PersistedQueryNotFound", extensions={"code": "PERSISTED_QUERY_NOT_FOUND"})
