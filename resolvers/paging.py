"""A page of a list, whatever is in it."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Page(NamedTuple, Generic[Item]):
    """``cursors`` go with ``nodes``; ``total`` counts all that match, on whatever page."""

    nodes: tuple[Item, ...]
    cursors: tuple[str, ...]
    has_next: bool
    total: int
