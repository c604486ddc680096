"""Persisted queries: find the GraphQL document of a request that contains a hash or an id instead of the document."""

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

TTL_SECONDS = 24 * 3600
MAX_SHARED_DOCUMENTS = 4_096
"""Number of keys in the shared cache. The hash of a document selects its key, so that clients cannot fill the cache."""
MAX_LOCAL_DOCUMENTS = 500
MAX_LOCAL_CHARACTERS = 2_000_000

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
ID_PARAMETERS = ("documentId", "doc_id", "id")
"""Request parameters for the id of a document: those of the GraphQL over HTTP proposal, of Relay, and of others."""

_NOT_TRUSTED = (
    "Only documents of the manifest are carried out here: send one of them exactly as it stands there, or its id."
)


class PersistedQueries:
    """The documents that clients may name by a hash or an id.

    They are the trusted documents of the manifest and, unless ``require_trusted`` is set, documents that a client has
    sent before together with their SHA-256 (Apollo's automatic persisted queries). The latter are stored in this
    process and in the shared cache.

    Args:
        documents: parses and validates documents.
        cache: the shared cache.
        trusted: the trusted documents; None: there is no manifest.
        require_trusted: whether to refuse all documents that are not trusted.
    """

    def __init__(
        self,
        documents: DocumentCache,
        cache: Cache,
        trusted: TrustedDocuments | None = None,
        *,
        require_trusted: bool = False,
    ) -> None:
        self._documents = documents
        self._cache = cache
        self._trusted = trusted or TrustedDocuments()
        self._require_trusted = require_trusted
        self._local: OrderedDict[str, str] = OrderedDict()
        self._local_characters = 0

    async def resolve(self, query: str | None, extensions: Mapping[str, object] | None) -> str | None:
        """Return the document of a request; None if the request has neither a document nor an id.

        Args:
            query: the document in the request.
            extensions: the extensions of the request, which may contain the document's id.

        Raises:
            GraphQLError: the id is invalid or unknown, names another document than ``query``, or the document is not
                trusted although that is required.
        """
        id = _document_id(extensions)
        trusted = None if id is None else self._trusted.get(id)
        if query:
            return await self._validate(query, id, trusted)
        if id is None:
            if self._require_trusted:
                raise document_rejected(_NOT_TRUSTED)
            return query
        if trusted is not None:
            return trusted
        sha256 = _SHA256.fullmatch(id)
        if sha256 is None:
            raise bad_request("The request names no document of the manifest, and no SHA-256 hash in lower-case hex.")
        document = None if self._require_trusted else await self._load(sha256[1])
        if document is None:
            raise _not_found()
        return document

    async def _validate(self, query: str, id: str | None, trusted: str | None) -> str:
        """Return the document to execute.

        Args:
            id: the document's id in the request.
            trusted: the trusted document with this id.

        Raises:
            GraphQLError: the id names another document, or the document is not trusted although that is required.
        """
        if trusted is not None:
            if trusted != query and self._definitions(trusted) != self._definitions(query):
                raise bad_request("The document is not the one that its id names.")
            return trusted
        sha256 = None if id is None else digest(query)
        if id is not None and id.removeprefix("sha256:") != sha256:
            raise bad_request("The document is not the one that its sha256Hash names.")
        if self._require_trusted and query not in self._trusted.texts:
            raise document_rejected(_NOT_TRUSTED)
        if sha256 is not None and sha256 not in self._local and self._trusted.get(sha256) is None:
            await self._store(sha256, query)
        return query

    def _definitions(self, text: str) -> list[str] | None:
        """Return the printed definitions of the document in sorted order, because Apollo's manifest reorders them."""
        tree = self._documents.parse_or_none(text)
        return None if tree is None else sorted(print_ast(each) for each in tree.definitions)

    async def _store(self, sha256: str, text: str) -> None:
        """Store the document in this process and in the shared cache, if it is valid."""
        try:
            if self._documents.parse(text).errors:
                return
        except GraphQLError:
            return
        self._store_locally(sha256, text)
        await self._cache.set_many({_cache_key(sha256): text}, ttl_seconds=TTL_SECONDS)

    async def _load(self, sha256: str) -> str | None:
        if sha256 in self._local:
            self._local.move_to_end(sha256)
            return self._local[sha256]
        key = _cache_key(sha256)
        text = (await self._cache.get_many((key,)) or {}).get(key)
        if text is None or digest(text) != sha256:  # another document has the same key
            return None
        self._store_locally(sha256, text)
        return text

    def _store_locally(self, sha256: str, text: str) -> None:
        self._local[sha256] = text
        self._local_characters += len(text)
        while len(self._local) > MAX_LOCAL_DOCUMENTS or self._local_characters > MAX_LOCAL_CHARACTERS:
            _, dropped = self._local.popitem(last=False)
            self._local_characters -= len(dropped)


def with_document_id(body: dict[str, object]) -> dict[str, object]:
    """Return the request with the id of its document in its extensions, if one of its parameters is that id.

    ``id`` and ``doc_id`` count only in requests without a document, because some clients send an id of another kind
    together with a document.
    """
    names = ("documentId",) if body.get("query") else ID_PARAMETERS
    id = next((body[name] for name in names if body.get(name) is not None), None)
    extensions = body.get("extensions") or {}
    if id is None or not isinstance(extensions, dict):
        return body
    return body | {"extensions": {"documentId": id} | extensions}


def _document_id(extensions: Mapping[str, object] | None) -> str | None:
    """Return the id of the document in the extensions of a request; None if they contain none.

    Raises:
        GraphQLError: the id is malformed.
    """
    if not extensions:
        return None
    persisted = extensions.get("persistedQuery")
    if isinstance(persisted, str):  # the form in the documentation of graphql-ws
        return persisted
    if isinstance(persisted, dict):
        persisted = cast(dict[str, object], persisted)
        id = persisted.get("sha256Hash")
        if persisted.get("version", 1) != 1 or not isinstance(id, str):
            raise bad_request("The persistedQuery needs version 1 and a sha256Hash.")
        return id
    document_id = extensions.get("documentId")
    if document_id is not None and not isinstance(document_id, str):
        raise bad_request("The id of the document is not text.")
    return document_id


def _cache_key(sha256: str) -> str:
    return f"gateway:document:{int(sha256[:8], 16) % MAX_SHARED_DOCUMENTS}"


def _not_found() -> GraphQLError:
    """Return the error with which Apollo Client sends the request again together with its document."""
    return GraphQLError("PersistedQueryNotFound", extensions={"code": "PERSISTED_QUERY_NOT_FOUND"})
