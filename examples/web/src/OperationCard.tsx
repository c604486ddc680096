import { useState } from "react";
import { useMutation } from "urql";

import { messageOf } from "./adx/errors";
import { CancelOperationDocument, RetryOperationDocument } from "./adx/generated/graphql";
import { isClosed, type Operation, useOperation } from "./adx/useOperation";
import { Bar } from "./parts";
import { Steps } from "./Steps";
import { ago, duration, kindOf, statusOf } from "./words";

/** One operation, followed to its end. It is open from the start where it is still going on when it is first shown. */
export function OperationCard({ initial, onStarted }: { initial: Operation; onStarted: (operation: Operation) => void }) {
  const { operation, failure } = useOperation(initial);
  const [isOpen, setOpen] = useState(!isClosed(initial));
  const { progress, error, status } = operation;
  const name = kindOf(operation);

  return (
    <details
      className="operation"
      id={operation.id}
      data-status={status}
      open={isOpen}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>
        <strong>{name}</strong>
        <span className="badge">{statusOf(operation)}</span>
        <small>
          {ago(operation.startedAt)}
          {operation.closedAt && `, took ${duration(operation.startedAt, operation.closedAt)}`}
          {!isClosed(operation) && ` · ${progress.completedSteps} of ${progress.totalSteps} steps`}
          {!isClosed(operation) && !!progress.estimatedSecondsRemaining &&
            ` · about ${Math.ceil(progress.estimatedSecondsRemaining)} s left`}
        </small>
        <Bar label={`${name}: part done`} value={progress.fraction} tone={status} />
      </summary>
      {error && (
        <p className="failure">
          {error.message}
          {error.compensated && progress.steps.some((step) => step.status === "COMPENSATED") && " Everything was undone."}
        </p>
      )}
      {failure && <p role="alert">{failure}</p>}
      <Steps operation={operation} />
      <Actions operation={operation} onStarted={onStarted} />
    </details>
  );
}

function Actions({ operation, onStarted }: { operation: Operation; onStarted: (operation: Operation) => void }) {
  const [cancelling, cancel] = useMutation(CancelOperationDocument);
  const [retrying, retry] = useMutation(RetryOperationDocument);
  const failure = cancelling.error ?? retrying.error;

  async function again() {
    const { data } = await retry({ input: { id: operation.id, idempotencyKey: crypto.randomUUID() } });
    if (data) onStarted(data.retryOperation.operation);
  }

  return (
    <footer>
      {failure && <p role="alert">{messageOf(failure)}</p>}
      {(operation.status === "RUNNING" || operation.status === "WAITING") && (
        <button disabled={cancelling.fetching} onClick={() => cancel({ input: { id: operation.id } })}>
          Cancel
        </button>
      )}
      {operation.error?.retryable && (
        <button disabled={retrying.fetching} onClick={again}>
          Try again
        </button>
      )}
    </footer>
  );
}
