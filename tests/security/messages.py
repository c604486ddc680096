"""Recursive iteration over the protobuf messages inside Temporal messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from google.protobuf.message import Message
from temporalio.api.common.v1 import SearchAttributes


def messages_in(*messages: Message) -> Iterator[Message]:
    """Yield these messages and all nested ones, except search attributes, which Temporal cannot encrypt."""
    for message in messages:
        if isinstance(message, SearchAttributes):
            continue
        yield message
        for _, value in message.ListFields():
            if isinstance(value, Message):
                yield from messages_in(value)
            elif isinstance(value, Mapping):
                yield from messages_in(*(part for part in value.values() if isinstance(part, Message)))
            elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
                yield from messages_in(*(part for part in value if isinstance(part, Message)))
