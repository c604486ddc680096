"""What a worker does with the states that its workflows publish: it writes them to the record of operations."""

from __future__ import annotations

from activities.operations.record_repair import RecordRepair
from contracts.operation_records import OperationRecord
from contracts.operations import Operation
from infrastructure.record_buffer import RecordBuffer
from workflows.state_publication import UNKNOWN_RUN


class StateRecorder:
    """A listener of published states."""

    def __init__(self, buffer: RecordBuffer, repair: RecordRepair) -> None:
        self._buffer = buffer
        self._repair = repair

    def record(self, operation: Operation) -> None:
        """Write the state. Only Temporal knows the position of a later run, so that state is read from there."""
        if operation.position.run == UNKNOWN_RUN:
            self._repair.check_soon(operation.id, operation.position.revision)
        else:
            self._buffer.add(OperationRecord(operation=operation))
