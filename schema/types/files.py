"""Files, and where to send one."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import strawberry
from pydantic import JsonValue
from strawberry import Parent
from strawberry.scalars import JSON

from contracts import files, users
from resolvers import files as seen
from schema.fields import Info, field
from schema.scalars import ByteCount
from schema.types.enums import AccessLevel
from schema.types.node import Node
from schema.types.users import User

Seen: TypeAlias = Parent[files.File]


@strawberry.type
class File(Node):
    name: str
    content_type: str
    size: ByteCount
    checksum: str = strawberry.field(description="Lower-case hex SHA-256 of the stored bytes.")
    access_level: AccessLevel

    @field(User)
    @staticmethod
    async def owner(file: Seen, info: Info) -> users.User:
        return await seen.owner(info.context, file)

    uploaded_at: datetime

    @field(str, "A link that works without further authentication for a few minutes.")
    @staticmethod
    def download_url(file: Seen, info: Info) -> str:
        return seen.download_url(info.context, file)

    @field(JSON | None, "What processing found out: lines and words of a text, width and height of an image.")
    @staticmethod
    def metadata(file: Seen) -> JsonValue:
        return seen.metadata(file)

    @classmethod
    def is_type_of(cls, thing: object, _info: object) -> bool:
        return isinstance(thing, files.File)


@strawberry.type
class HttpHeader:
    name: str
    value: str


@strawberry.type(
    description="Where to send the bytes: one HTTP request with this method, these headers and the bytes as its body."
)
class UploadTarget:
    id: strawberry.ID
    url: str
    method: str
    headers: list[HttpHeader]
    expires_at: datetime
