"""Lists in pages, in the shape of the Relay connection specification."""

from __future__ import annotations

from typing import NamedTuple, Self

import strawberry

from contracts import operations
from resolvers.listing import OperationPage
from schema.operations import Operation


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class OperationEdge:
    node: Operation
    cursor: str


@strawberry.type
class OperationConnection:
    edges: list[OperationEdge]
    nodes: list[Operation]
    page_info: PageInfo
    total_count: int


class Edge(NamedTuple):
    node: operations.Operation
    cursor: str


class Connection(NamedTuple):
    """A page as OperationConnection shows it."""

    edges: list[Edge]
    nodes: tuple[operations.Operation, ...]
    page_info: PageInfo
    total_count: int

    @classmethod
    def of(cls, page: OperationPage, *, after: str | None) -> Self:
        """``after`` is the cursor that the page was asked for with: there is a page before it."""
        return cls(
            edges=[Edge(*pair) for pair in zip(page.operations, page.cursors, strict=True)],
            nodes=page.operations,
            page_info=PageInfo(
                has_next_page=page.has_next,
                has_previous_page=after is not None,
                start_cursor=page.cursors[0] if page.cursors else None,
                end_cursor=page.cursors[-1] if page.cursors else None,
            ),
            total_count=page.total,
        )
