"""Documents that clients name by their hash: those of a manifest, and those that a client has sent once before."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import cast

from graphql import GraphQLError, print_ast

from gateway.http.trusted_documents import TrustedDocuments, digest
from infrastructure.caching.cache import Cache
from schema.errors import bad_request, document_rejected
from schema.execution.document_cache import DocumentCache

KEPT_SECONDS = 24 * 3600
MOST_SHARED = 4_096
"""Documents in the shared cache, each in a place that its hash names: what strangers send cannot fill it."""
MOST_AT_HAND = 500
MOST_CHARACTERS_AT_HAND = 2_000_000

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
ID_PARAMETERS = ("documentId", "doc_id", "id")
"""Request parameters that name a document: of the GraphQL over HTTP proposal, of Relay's documentation, of others."""

_NOT_TRUSTED = (
    "Only documents of the manifest are carried out here: send one of them exactly as it stands there, or its id."
)


class PersistedQueries:
    """Find the text of a request's document. With ``only_trusted`` only documents of the manifest are executed.

    Others are kept as Apollo's automatic persisted queries are, once they have been admitted: at hand, and in the
    cache, where there is one, for the other processes.
    """

    def __init__(
        self,
        documents: DocumentCache,
        cache: Cache,
        trusted: TrustedDocuments | None = None,
        *,
        only_trusted: bool = False,
    ) -> None:
        self._documents = documents
        self._cache = cache
        self._trusted = trusted or TrustedDocuments()
        self._only_trusted = only_trusted
        self._at_hand: OrderedDict[str, str] = OrderedDict()
        self._characters = 0

    async def text(self, query: str | None, extensions: Mapping[str, object] | None) -> str | None:
        """Return the document, as it was sent or by its id; None where there is neither. Raises GraphQLError."""
        id = _id(extensions)
        trusted = None if id is None else self._trusted.get(id)
        if query:
            return await self._admit(query, id, trusted)
        if id is None:
            if self._only_trusted:
                raise document_rejected(_NOT_TRUSTED)
            return query
        if trusted is not None:
            return trusted
        sha256 = _SHA256.fullmatch(id)
        if sha256 is None:
            raise bad_request("The request names no document of the manifest, and no SHA-256 hash in lower-case hex.")
        known = None if self._only_trusted else await self._recall(sha256[1])
        if known is None:
            raise _not_found()
        return known

    async def _admit(self, query: str, id: str | None, trusted: str | None) -> str:
        """Return the document to execute. Raises GraphQLError if its id names another one, or it must not be used."""
        if trusted is not None:
            if trusted != query and self._definitions(trusted) != self._definitions(query):
                raise bad_request("The document is not the one that its id names.")
            return trusted
        sha256 = None if id is None else digest(query)
        if id is not None and id.removeprefix("sha256:") != sha256:
            raise bad_request("The document is not the one that its sha256Hash names.")
        if self._only_trusted and query not in self._trusted.texts:
            raise document_rejected(_NOT_TRUSTED)
        if sha256 is not None and sha256 not in self._at_hand and self._trusted.get(sha256) is None:
            await self._learn(sha256, query)
        return query

    def _definitions(self, text: str) -> list[str] | None:
        """Return the definitions of the document as they are printed, sorted: Apollo's manifest reorders them."""
        tree = self._documents.parse_or_none(text)
        return None if tree is None else sorted(print_ast(each) for each in tree.definitions)

    async def _learn(self, name: str, text: str) -> None:
        """Keep it, where it can be carried out."""
        try:
            if self._documents.parse(text).errors:
                return
        except GraphQLError:
            return
        self._keep(name, text)
        await self._cache.set_many({_place(name): text}, ttl_seconds=KEPT_SECONDS)

    async def _recall(self, name: str) -> str | None:
        if name in self._at_hand:
            self._at_hand.move_to_end(name)
            return self._at_hand[name]
        place = _place(name)
        text = (await self._cache.get_many((place,)) or {}).get(place)
        if text is None or digest(text) != name:  # another document has the place
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
    """Return the request with the id of its document among its extensions, if one of its parameters is that id.

    ``id`` and ``doc_id`` name a document only in requests without one: some clients send another id beside a document.
    """
    names = ("documentId",) if body.get("query") else ID_PARAMETERS
    id = next((body[name] for name in names if body.get(name) is not None), None)
    extensions = body.get("extensions") or {}
    if id is None or not isinstance(extensions, dict):
        return body
    return body | {"extensions": {"documentId": id} | extensions}


def _id(extensions: Mapping[str, object] | None) -> str | None:
    """Return the id that the request names its document by. Raises GraphQLError where it is none."""
    if not extensions:
        return None
    persisted = extensions.get("persistedQuery")
    if isinstance(persisted, str):  # as in the documentation of graphql-ws
        return persisted
    if isinstance(persisted, dict):
        persisted = cast(dict[str, object], persisted)
        id = persisted.get("sha256Hash")
        if persisted.get("version", 1) != 1 or not isinstance(id, str):
            raise bad_request("The persistedQuery needs version 1 and a sha256Hash.")
        return id
    given = extensions.get("documentId")
    if given is not None and not isinstance(given, str):
        raise bad_request("The id of the document is not text.")
    return given


def _place(name: str) -> str:
    return f"gateway:document:{int(name[:8], 16) % MOST_SHARED}"


def _not_found() -> GraphQLError:
    """In the words that Apollo Client knows: it sends the document with its next request."""
    return GraphQLError("PersistedQueryNotFound", extensions={"code": "PERSISTED_QUERY_NOT_FOUND"})
