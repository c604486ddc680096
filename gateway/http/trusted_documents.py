"""The manifest of trusted documents: its formats, and the documents that it holds, by their ids."""

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

_ALGORITHMS: Final = {32: "md5", 40: "sha1", 64: "sha256"}
"""Hash algorithms by the number of hex digits of their result: SHA-256 (most clients), SHA-1 (codegen), MD5 (Relay)."""
_HASH = re.compile(r"(?:(md5|sha1|sha256):)?([0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})")
_ID = re.compile(r"[^\s\x00-\x1f\x7f]{1,256}")
_MAX_FAULTS_SHOWN = 5
_FORMATS = (
    "a JSON object from ids to documents (`make documents`, graphql-codegen, Relay) "
    'or one with "format": "apollo-persisted-query-manifest", "version": 1 and "operations" (Apollo)'
)


class InvalidManifest(ValueError):
    """The manifest of trusted documents cannot be used; the message says why."""


class _ApolloOperation(BaseModel):
    id: str
    body: str


class _ApolloManifest(BaseModel):
    format: Literal["apollo-persisted-query-manifest"]
    version: Literal[1]
    operations: list[_ApolloOperation]


_MAP = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class TrustedDocuments:
    """Documents by every id that a client may send: the manifest's, with and without its prefix, and the SHA-256."""

    by_id: Mapping[str, str] = field(default_factory=dict)
    texts: frozenset[str] = frozenset()

    @classmethod
    def of(cls, manifest: Mapping[str, str]) -> TrustedDocuments:
        by_id: dict[str, str] = {}
        for id, text in manifest.items():
            by_id[digest(text)] = text
            if match := _HASH.fullmatch(id):
                by_id[match[2]] = text
        return cls(by_id | dict(manifest), frozenset(manifest.values()))

    def get(self, id: str) -> str | None:
        """Return the document with this id; an id that is a hash may have the prefix of its algorithm or not."""
        match = _HASH.fullmatch(id)
        return self.by_id.get(id) or (self.by_id.get(match[2]) if match and _is_prefix_right(match) else None)


def digest(text: str, algorithm: str = "sha256") -> str:
    """Return the hash of the document in lower-case hex, as clients compute it."""
    return hashlib.new(algorithm, text.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()


def read_manifest(path: Path, documents: DocumentCache) -> TrustedDocuments:
    """Read a manifest of graphql-codegen, Apollo, Relay or `make documents`.

    Raises:
        BadManifest: it cannot be read, has another format, or holds a document that the gateway would not execute.
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
    faults = [fault for id, text in manifest.items() for fault in _faults(documents, id, text)]
    if faults:
        more = [f"... and {len(faults) - _MAX_FAULTS_SHOWN} more."] if len(faults) > _MAX_FAULTS_SHOWN else []
        raise InvalidManifest(
            "\n  ".join([f"{path} holds documents that cannot be trusted:", *faults[:_MAX_FAULTS_SHOWN], *more])
        )
    return TrustedDocuments.of(manifest)


def faults_of(documents: DocumentCache, text: str) -> Iterator[str]:
    """Yield each reason for which the gateway would not execute the document."""
    try:
        yield from (error.message for error in documents.parse(text).errors)
    except GraphQLError as error:
        yield error.message


def _documents_of(content: object) -> Mapping[str, str]:
    """Return the documents by their ids. Raises ValueError."""
    if isinstance(content, dict) and "format" in content:
        manifest = _of_apollo(content)
    else:
        try:
            manifest = _MAP.validate_python(content)
        except ValidationError as error:
            raise ValueError(f"it must be {_FORMATS}.") from error
    if not manifest:
        raise ValueError("it holds no documents.")
    if wrong := next((id for id in manifest if not _ID.fullmatch(id)), None):
        raise ValueError(f"{wrong[:60]!r} is not an id (1 to 256 characters without spaces).")
    return manifest


def _of_apollo(content: object) -> Mapping[str, str]:
    try:
        operations = _ApolloManifest.model_validate(content).operations
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}; it must be {_FORMATS}.") from error
    manifest: dict[str, str] = {}
    for each in operations:
        if manifest.setdefault(each.id, each.body) != each.body:
            raise ValueError(f"two different documents have the id {each.id}.")
    return manifest


def _faults(documents: DocumentCache, id: str, text: str) -> Iterator[str]:
    match = _HASH.fullmatch(id)
    if match and _is_prefix_right(match) and digest(text, algorithm := _ALGORITHMS[len(match[2])]) != match[2]:
        yield f"{id}: the document has another {algorithm.upper()} hash; it was changed after the manifest was written"
        return
    yield from (f"{id}: {reason}" for reason in faults_of(documents, text))


def _is_prefix_right(match: re.Match[str]) -> bool:
    return match[1] in {None, _ALGORITHMS[len(match[2])]}
