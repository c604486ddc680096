"""Write the states that workflows publish to the record of operations."""

from __future__ import annotations

from activities.operations.record_repair import RecordRepair
from contracts.operation_records import OperationRecord
from contracts.operations import Operation
from infrastructure.record_buffer import RecordBuffer
from workflows.state_publication import UNKNOWN_RUN


class StateRecorder:
    """Receives each published state of an operation (a StateListener)."""

    def __init__(self, buffer: RecordBuffer, repair: RecordRepair) -> None:
        self._buffer = buffer
        self._repair = repair

    def record(self, operation: Operation) -> None:
        """Buffer the state for the record, or read it from Temporal if the position of its run is unknown here."""
        if operation.position.run == UNKNOWN_RUN:
            self._repair.check_soon(operation.id, operation.position.revision)
        else:
            self._buffer.add(OperationRecord(operation=operation))
