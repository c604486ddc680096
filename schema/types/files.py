"""The types File and UploadTarget."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import strawberry
from pydantic import JsonValue
from strawberry import Parent
from strawberry.scalars import JSON

from contracts import files, users
from resolvers.files import absolute_download_url, load_owner, metadata_values
from schema.fields import Info, field
from schema.scalars import ByteCount
from schema.types.enums import AccessLevel
from schema.types.node import Node
from schema.types.users import User

FileParent: TypeAlias = Parent[files.File]


@strawberry.type(description="A file of a tenant.")
class File(Node):
    name: str = strawberry.field(description="File name.")
    content_type: str = strawberry.field(description="Media type of the file (RFC 6838).")
    size: ByteCount = strawberry.field(description="Number of bytes of the file.")
    checksum: str = strawberry.field(description="Lower-case hex SHA-256 of the stored bytes.")
    access_level: AccessLevel = strawberry.field(description="Who may see the file.")

    @field(User, "The user who uploaded the file.")
    @staticmethod
    async def owner(file: FileParent, info: Info) -> users.User:
        return await load_owner(info.context, file)

    uploaded_at: datetime = strawberry.field(description="When the file was created.")

    @field(str, "Download link that needs no further authentication and expires after a few minutes.")
    @staticmethod
    def download_url(file: FileParent, info: Info) -> str:
        return absolute_download_url(info.context, file)

    @field(
        JSON | None,
        "Results of processing: lines and words of a text, width and height of an image. Null before processing.",
    )
    @staticmethod
    def metadata(file: FileParent) -> JsonValue:
        return metadata_values(file)

    @classmethod
    def is_type_of(cls, value: object, _info: object) -> bool:
        return isinstance(value, files.File)


@strawberry.type(description="A header of an HTTP request.")
class HttpHeader:
    name: str = strawberry.field(description="Header name.")
    value: str = strawberry.field(description="Header value.")


@strawberry.type(
    description="Target of the upload: one HTTP request with this method, these headers and the bytes as body."
)
class UploadTarget:
    id: strawberry.ID = strawberry.field(description="Id of the upload, the uploadId of completeUpload.")
    url: str = strawberry.field(description="URL of the request.")
    method: str = strawberry.field(description="HTTP method of the request.")
    headers: list[HttpHeader] = strawberry.field(description="Headers of the request.")
    expires_at: datetime = strawberry.field(description="When the upload expires if it is not completed.")
