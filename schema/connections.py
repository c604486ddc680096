"""Lists in pages, in the shape of the Relay connection specification."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import strawberry

from resolvers.paging import Page
from schema.files import File
from schema.operations import Operation

Item = TypeVar("Item")


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


class Edge(NamedTuple, Generic[Item]):
    node: Item
    cursor: str


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
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=after is not None,
            start_cursor=page.cursors[0] if page.cursors else None,
            end_cursor=page.cursors[-1] if page.cursors else None,
        ),
        total_count=page.total,
    )
