"""Result of a lookup in the record of operations, and how it completes what Temporal returned."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from contracts.errors import OperationNotFound, ServiceUnavailable
from contracts.operations import Operation, kind_of


class RecordedOperations(NamedTuple):
    """Result of a lookup in the record of operations; ``is_unavailable`` means that the lookup failed."""

    operations: Mapping[str, Operation] = MappingProxyType({})
    deleted: frozenset[str] = frozenset()
    is_unavailable: bool = False

    def merge(self, operation_id: str, found: Operation | Exception) -> Operation | Exception:
        """Return the operation from Temporal, or from the record if Temporal no longer retains it.

        Args:
            found: The operation from Temporal, or the error of loading it.
        """
        if operation_id in self.deleted:
            return OperationNotFound()
        if not isinstance(found, OperationNotFound) or kind_of(operation_id) is None:
            return found
        return (
            ServiceUnavailable(service="operations")
            if self.is_unavailable
            else self.operations.get(operation_id, found)
        )


UNAVAILABLE_RECORD = RecordedOperations(is_unavailable=True)
"""The result if the record did not answer, or not in time."""
