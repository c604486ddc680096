"""Connections: pages of lists as the Relay cursor connections specification defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import strawberry
from strawberry import Parent

from contracts import operations
from resolvers.operations.records import OperationPage
from resolvers.paging import Page
from schema.descriptions import CURSOR, EDGES, NODE, NODES, PAGE_INFO
from schema.fields import field
from schema.types.files import File
from schema.types.operations import Operation

Item = TypeVar("Item")


@strawberry.type(description="Position of a page in its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="True if items follow this page.")
    has_previous_page: bool = strawberry.field(description="True if items precede this page.")
    start_cursor: str | None = strawberry.field(
        description="Cursor of the first item of the page. Null if it is empty."
    )
    end_cursor: str | None = strawberry.field(
        description="Cursor of the last item of the page. Pass it as `after` to receive the next page. "
        "Null if the page is empty."
    )


class Edge(NamedTuple, Generic[Item]):
    """An item of a page with its cursor."""

    node: Item
    cursor: str


PageParent: TypeAlias = Parent[OperationPage]


@strawberry.type(description="An operation of a list with its position.")
class OperationEdge:
    node: Operation = strawberry.field(description=NODE)
    cursor: str = strawberry.field(description=CURSOR)


@strawberry.type(description="A page of a list of operations.")
class OperationConnection:
    @field(list[OperationEdge], EDGES)
    @staticmethod
    def edges(page: PageParent) -> list[Edge[operations.Operation]]:
        return [Edge(*pair) for pair in zip(page.nodes, page.cursors, strict=True)]

    nodes: list[Operation] = strawberry.field(description=NODES)

    @field(PageInfo, PAGE_INFO)
    @staticmethod
    def page_info(page: PageParent) -> PageInfo:
        return _page_info(page.cursors, has_previous=page.has_previous, has_next=page.has_next)

    @field(int, "Number of operations that match, exactly up to 10,000; 10,001 means more.")
    @staticmethod
    async def total_count(page: PageParent) -> int:
        return await page.total()


@strawberry.type(description="A file of a list with its position.")
class FileEdge:
    node: File = strawberry.field(description=NODE)
    cursor: str = strawberry.field(description=CURSOR)


@strawberry.type(description="A page of a list of files.")
class FileConnection:
    edges: list[FileEdge] = strawberry.field(description=EDGES)
    nodes: list[File] = strawberry.field(description=NODES)
    page_info: PageInfo = strawberry.field(description=PAGE_INFO)
    total_count: int = strawberry.field(description="Number of files that the viewer may see in the list.")


class Connection(NamedTuple, Generic[Item]):
    """A page with the attributes of the connection types."""

    edges: list[Edge[Item]]
    nodes: tuple[Item, ...]
    page_info: PageInfo
    total_count: int


def connection(page: Page[Item], *, after: str | None) -> Connection[Item]:
    """Return a page as a connection; ``after`` is the cursor with which the page was requested."""
    return Connection(
        edges=[Edge(*pair) for pair in zip(page.nodes, page.cursors, strict=True)],
        nodes=page.nodes,
        page_info=_page_info(page.cursors, has_previous=after is not None, has_next=page.has_next),
        total_count=page.total,
    )


def _page_info(cursors: Sequence[str], *, has_previous: bool, has_next: bool) -> PageInfo:
    return PageInfo(
        has_next_page=has_next,
        has_previous_page=has_previous,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )
