"""The recorded histories by release, workflow (``switch_tenant``) and course (``failed_at_set_tenant``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from contracts.operations import MEMO_STATE, OperationState


@dataclass(frozen=True)
class Recording:
    """A recorded history of a workflow, in the file ``RELEASE/WORKFLOW.COURSE.json``."""

    path: Path

    @property
    def release(self) -> str:
        return self.path.parent.name

    @property
    def workflow(self) -> str:
        return self.path.stem.partition(".")[0]

    @property
    def course(self) -> str:
        return self.path.stem.partition(".")[2]

    def __str__(self) -> str:
        return f"{self.release}-{self.path.stem}"

    def history(self) -> WorkflowHistory:
        return WorkflowHistory.from_json(self.workflow, self.path.read_text())

    async def states(self) -> list[OperationState]:
        """Return the states in the memo, from the start to the close of the operation."""
        events = self.history().events
        memos = [events[0].workflow_execution_started_event_attributes.memo]
        memos += [
            event.workflow_properties_modified_event_attributes.upserted_memo
            for event in events
            if event.HasField("workflow_properties_modified_event_attributes")
        ]
        converter = pydantic_data_converter
        return [(await converter.decode([memo.fields[MEMO_STATE]], [OperationState]))[0] for memo in memos]


def recordings() -> list[Recording]:
    return [Recording(path) for path in sorted(Path(__file__).parent.glob("*/*.json"))]
