"""Trusted documents: read the manifest of the documents that clients may execute, and find a document by its id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from graphql import GraphQLError
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from schema.execution.document_cache import DocumentCache

_ALGORITHM_BY_LENGTH: Final = {32: "md5", 40: "sha1", 64: "sha256"}
"""Hash algorithms by the number of hex digits of their result: SHA-256 (most clients), SHA-1 (codegen), MD5 (Relay)."""
_HASH = re.compile(r"(?:(md5|sha1|sha256):)?([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})")
_ID = re.compile(r"[^\s\x00-\x1f\x7f]{1,256}")
_MAX_ERRORS_SHOWN = 5
_FORMATS = (
    "a JSON object from ids to documents (`make documents`, graphql-codegen, Relay) "
    'or one with "format": "apollo-persisted-query-manifest", "version": 1 and "operations" (Apollo)'
)


class InvalidManifest(ValueError):
    """The manifest of trusted documents cannot be used; the message gives the reason."""


class _ApolloOperation(BaseModel):
    id: str
    body: str


class _ApolloManifest(BaseModel):
    format: Literal["apollo-persisted-query-manifest"]
    version: Literal[1]
    operations: list[_ApolloOperation]


_ID_TO_DOCUMENT = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class TrustedDocuments:
    """The trusted documents by their ids.

    Attributes:
        by_id: the documents by each id that a client may send: the id in the manifest, with and without the prefix of
            its hash algorithm, and the document's SHA-256.
        texts: all documents.
    """

    by_id: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, manifest: Mapping[str, str]) -> TrustedDocuments:
        """Create the trusted documents of a manifest, which maps ids to documents."""
        by_id: dict[str, str] = {}
        for id, text in manifest.items():
            by_id[digest(text)] = text
            if match := _HASH.fullmatch(id):
                by_id[match[2]] = text
        return cls(by_id | dict(manifest), frozenset(manifest.values()))

    def get(self, id: str) -> str | None:
        """Return the document with this id; None if there is none. The prefix of a hash (``sha256:``) is optional."""
        match = _HASH.fullmatch(id)
        return self.by_id.get(id) or (self.by_id.get(match[2]) if match and _is_prefix_right(match) else None)


def digest(text: str, algorithm: str = "sha256") -> str:
    """Return the hash of a document in lower-case hexadecimal digits, as clients compute it."""
    return hashlib.new(algorithm, text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()


def read_manifest(path: Path, documents: DocumentCache) -> TrustedDocuments:
    """Read a manifest of graphql-codegen, Apollo, Relay or `make documents`.

    Raises:
        InvalidManifest: the manifest cannot be read, has another format, or contains a document that the gateway would
            not execute.
    """
    try:
        content = from_json(path.read_bytes())
    except OSError as error:
        raise InvalidManifest(f"The manifest of trusted documents {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidManifest(f"The manifest of trusted documents {path} is not JSON: {error}.") from error
    try:
        manifest = _documents_of(content)
    except ValueError as error:
        raise InvalidManifest(f"{path} is not a manifest of trusted documents: {error}") from error
    errors = [error for id, text in manifest.items() for error in _entry_errors(documents, id, text)]
    if errors:
        more = [f"... and {len(errors) - _MAX_ERRORS_SHOWN} more."] if len(errors) > _MAX_ERRORS_SHOWN else []
        raise InvalidManifest(
            "\n  ".join([f"{path} holds documents that cannot be trusted:", *errors[:_MAX_ERRORS_SHOWN], *more])
        )
    return TrustedDocuments.of(manifest)


def validation_errors(documents: DocumentCache, text: str) -> Iterator[str]:
    """Yield the message of each error for which the gateway would not execute the document."""
    try:
        yield from (error.message for error in documents.parse(text).errors)
    except GraphQLError as error:
        yield error.message


def _documents_of(content: object) -> Mapping[str, str]:
    """Return the documents of a manifest by their ids.

    Raises:
        ValueError: the content is not a manifest; the message gives the reason.
    """
    if isinstance(content, dict) and "format" in content:
        manifest = _apollo_documents(content)
    else:
        try:
            manifest = _ID_TO_DOCUMENT.validate_python(content)
        except ValidationError as error:
            raise ValueError(f"it must be {_FORMATS}.") from error
    if not manifest:
        raise ValueError("it holds no documents.")
    if invalid := next((id for id in manifest if not _ID.fullmatch(id)), None):
        raise ValueError(f"{invalid[:60]!r} is not an id (1 to 256 characters without spaces).")
    return manifest


def _apollo_documents(content: object) -> Mapping[str, str]:
    try:
        operations = _ApolloManifest.model_validate(content).operations
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}; it must be {_FORMATS}.") from error
    manifest: dict[str, str] = {}
    for operation in operations:
        if manifest.setdefault(operation.id, operation.body) != operation.body:
            raise ValueError(f"two different documents have the id {operation.id}.")
    return manifest


def _entry_errors(documents: DocumentCache, id: str, text: str) -> Iterator[str]:
    match = _HASH.fullmatch(id)
    if match and _is_prefix_right(match) and digest(text, algorithm := _ALGORITHM_BY_LENGTH[len(match[2])]) != match[2]:
        yield f"{id}: the document has another {algorithm.upper()} hash; it was changed after the manifest was written"
        return
    yield from (f"{id}: {reason}" for reason in validation_errors(documents, text))


def _is_prefix_right(match: re.Match[str]) -> bool:
    return match[1] in {None, _ALGORITHM_BY_LENGTH[len(match[2])]}
