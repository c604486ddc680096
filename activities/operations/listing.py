"""Statements that select pages and counts of the record of operations, by keyset pagination."""

from __future__ import annotations

from activities.operations.mapping import microseconds
from activities.operations.sql import Statement, escape_like
from contracts.operation_records import MAX_COUNT, OperationOrder, RecordPageRequest

SEARCH_WINDOW = 2_000
"""Number of operations that a search reads in the order of the list before it uses the n-gram index.

A frequent text is found among these at once, where the index would return a large part of the table; a rare text is
found by the index.
"""

_ORDERS = {
    OperationOrder.STARTED_AT_DESC: ("started_at", "DESC"),
    OperationOrder.STARTED_AT_ASC: ("started_at", "ASC"),
    OperationOrder.CLOSED_AT_DESC: ("closed_at", "DESC"),
    OperationOrder.DURATION_DESC: ("duration_ms", "DESC"),
}


class OperationListQuery:
    """The SQL statements for one request of one user in one tenant."""

    def __init__(self, dialect: str, user_id: str, tenant_id: str, request: RecordPageRequest) -> None:
        self._dialect = dialect
        self._user_id = user_id
        self._tenant_id = tenant_id
        self._request = request

    @property
    def is_search(self) -> bool:
        """Return whether the request is a search that should first read a window of the list."""
        return self._dialect == "postgres" and bool(self._request.filter.search)

    def page(self) -> Statement:
        """Select ``first`` + 1 rows of the record with their states (``operation``) and ``sort_key``."""
        statement = Statement(self._dialect)
        self._add_scope(statement)
        self._add_position(statement)
        add_filter(statement, self._request, self._user_id)
        if self.is_search:
            add_ngrams(statement, self._request)
        return self._select(statement, "operations_record")

    def page_of_window(self) -> Statement:
        """Select as ``page`` does, among the next 2,000 operations only; fewer rows do not mean the end of the list."""
        statement = Statement(self._dialect)
        self._add_scope(statement)
        self._add_position(statement)
        window = (
            f"(SELECT r.* FROM operations_record r WHERE {statement.condition} {self._order} LIMIT {SEARCH_WINDOW})"  # noqa: S608
        )
        statement.conditions = []
        add_filter(statement, self._request, self._user_id)
        return self._select(statement, window)

    def count(self) -> Statement:
        """Select ``total``: how many operations match, counted up to 10,001."""
        statement = Statement(self._dialect)
        self._add_scope(statement)
        add_filter(statement, self._request, self._user_id)
        if self.is_search:
            add_ngrams(statement, self._request)
        statement.text = (
            "SELECT COUNT(*) AS total FROM (SELECT 1 FROM operations_record r "  # noqa: S608
            f"WHERE {statement.condition} LIMIT {MAX_COUNT}) matching"
        )
        return statement

    @property
    def _order(self) -> str:
        column, direction = _ORDERS[self._request.order]
        return f"ORDER BY r.{column} {direction}, r.id {direction}"

    def _select(self, statement: Statement, source: str) -> Statement:
        column, direction = _ORDERS[self._request.order]
        page = (
            f"SELECT r.*, r.{column} AS sort_key FROM {source} r WHERE {statement.condition} "  # noqa: S608
            f"{self._order} LIMIT {self._request.first + 1}"
        )
        statement.text = (
            f"SELECT page.*, s.operation FROM ({page}) page JOIN operations_state s ON s.id = page.id "  # noqa: S608
            f"ORDER BY page.sort_key {direction}, page.id {direction}"
        )
        return statement

    def _add_scope(self, statement: Statement) -> None:
        if self._request.of_all_members:
            statement.where("r.tenant_id = {}", self._tenant_id)
        else:
            statement.where("r.user_id = {}", self._user_id)
            statement.where("(r.tenant_id = {} OR r.other_tenant_id = {})", self._tenant_id, self._tenant_id)
        statement.where("r.deleted_at IS NULL")

    def _add_position(self, statement: Statement) -> None:
        after = self._request.after
        if after is not None:
            column, direction = _ORDERS[self._request.order]
            beyond = "<" if direction == "DESC" else ">"
            statement.where(f"r.{column} {beyond}= {{}}", after.key)
            statement.where(f"(r.{column} {beyond} {{}} OR r.id {beyond} {{}})", after.key, after.id)


def add_filter(statement: Statement, request: RecordPageRequest, user_id: str) -> None:
    """Add the conditions of the filter. Private subjects and targets of other users never match."""
    filter = request.filter
    if filter.kinds is not None:
        statement.where_in("r.kind", filter.kinds)
    if filter.except_kinds is not None:
        statement.where_in("r.kind", filter.except_kinds, negate=True)
    if filter.statuses is not None:
        statement.where_in("r.status", filter.statuses)
    if filter.started_after is not None:
        statement.where("r.started_at >= {}", microseconds(filter.started_after))
    if filter.started_before is not None:
        statement.where("r.started_at < {}", microseconds(filter.started_before))
    if filter.started_by_ids is not None and request.of_all_members:
        statement.where_in("r.user_id", filter.started_by_ids)
    if filter.target_ids is not None:
        statement.where_in("r.target_id", filter.target_ids)
    if filter.search:
        statement.where("r.search_key LIKE {} ESCAPE '!'", f"%{escape_like(filter.search.casefold())}%")
    if request.of_all_members and (filter.search or filter.target_ids is not None):
        statement.where("(r.is_private IS NOT TRUE OR r.user_id = {})", user_id)


def add_ngrams(statement: Statement, request: RecordPageRequest) -> None:
    """Add a condition for the n-gram index of PostgreSQL: the subject contains all n-grams of the search text."""
    text = (request.filter.search or "").casefold()
    size = min(3, len(text))
    ngrams = dict.fromkeys(text[start : start + size] for start in range(len(text) - size + 1))
    placeholders = ", ".join(statement.placeholder(ngram) for ngram in ngrams)
    statement.conditions.append(f"operations_ngrams(r.search_key) @> ARRAY[{placeholders}]::text[]")
