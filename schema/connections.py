"""Lists in pages, in the shape of the Relay connection specification."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import strawberry
from strawberry import Parent

from contracts import operations
from resolvers.operation_records import OperationPage
from resolvers.paging import Page
from schema.fields import field
from schema.files import File
from schema.operations import Operation

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


class OperationList(NamedTuple):
    """A page of operations as its connection type shows it: they are counted only if the client asks for it."""

    edges: list[Edge[operations.Operation]]
    nodes: tuple[operations.Operation, ...]
    page_info: PageInfo
    total: Callable[[], Coroutine[None, None, int]]


OperationListParent: TypeAlias = Parent[OperationList]


@strawberry.type
class OperationEdge:
    node: Operation
    cursor: str


@strawberry.type
class OperationConnection:
    edges: list[OperationEdge]
    nodes: list[Operation]
    page_info: PageInfo

    @field(int, "How many operations match, exactly up to 10,000; 10,001 means more.")
    @staticmethod
    async def total_count(connection: OperationListParent) -> int:
        return await connection.total()


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


def operation_connection(page: OperationPage, *, after: str | None) -> OperationList:
    """Return the page as ``connection`` does."""
    shown = connection(Page(page.nodes, page.cursors, page.has_next, 0), after=after)
    return OperationList(shown.edges, shown.nodes, shown.page_info, page.total)


def connection(page: Page[Item], *, after: str | None) -> Connection[Item]:
    """``after`` is the cursor that the page was asked for with: there is a page before it."""
    return Connection(
        edges=[Edge(*pair) for pair in zip(page.nodes, page.cursors, strict=True)],
        nodes=page.nodes,
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=after is not None,
            start_cursor=page.cursors[0] if page.cursors else None,
            end_cursor=page.cursors[-1] if page.cursors else None,
        ),
        total_count=page.total,
    )
