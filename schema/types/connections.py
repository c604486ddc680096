"""Lists in pages, in the shape of the Relay connection specification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import strawberry
from strawberry import Parent

from contracts import operations
from resolvers.operations.records import OperationPage
from resolvers.paging import Page
from schema.fields import field
from schema.types.files import File
from schema.types.operations import Operation

Item = TypeVar("Item")


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


class Edge(NamedTuple, Generic[Item]):
    node: Item
    cursor: str


PageParent: TypeAlias = Parent[OperationPage]


@strawberry.type
class OperationEdge:
    node: Operation
    cursor: str


@strawberry.type
class OperationConnection:
    @field(list[OperationEdge])
    @staticmethod
    def edges(page: PageParent) -> list[Edge[operations.Operation]]:
        return [Edge(*pair) for pair in zip(page.nodes, page.cursors, strict=True)]

    nodes: list[Operation]

    @field(PageInfo)
    @staticmethod
    def page_info(page: PageParent) -> PageInfo:
        return _page_info(page.cursors, has_previous=page.has_previous, has_next=page.has_next)

    @field(int, "How many operations match, exactly up to 10,000; 10,001 means more.")
    @staticmethod
    async def total_count(page: PageParent) -> int:
        return await page.total()


@strawberry.type
class FileEdge:
    node: File
    cursor: str


@strawberry.type
class FileConnection:
    edges: list[FileEdge]
    nodes: list[File]
    page_info: PageInfo
    total_count: int


class Connection(NamedTuple, Generic[Item]):
    """A page as the connection types show it."""

    edges: list[Edge[Item]]
    nodes: tuple[Item, ...]
    page_info: PageInfo
    total_count: int


def connection(page: Page[Item], *, after: str | None) -> Connection[Item]:
    """``after`` is the cursor that the page was asked for with: there is a page before it."""
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
