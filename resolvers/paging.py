"""One page of a list that is read by keyset pagination."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Page(NamedTuple, Generic[Item]):
    """One page of a list.

    Attributes:
        nodes: the items of the page.
        cursors: the cursor of each item, in the same order.
        has_next: whether more items follow.
        total: the number of items of all pages together.
    """

    nodes: tuple[Item, ...]
    cursors: tuple[str, ...]
    has_next: bool
    total: int
