/** Follows an operation, live, from any state of it to its last. */
import { useMemo } from "react";
import { useSubscription } from "urql";

import { messageOf } from "./errors";
import { FollowOperationDocument, type OperationStateFragment, type OperationStatus } from "./generated/graphql";

export type Operation = OperationStateFragment;

const CLOSED: readonly OperationStatus[] = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

/** An unknown status, which a newer gateway may send, counts as open. */
export function isClosed(operation: { status: OperationStatus }): boolean {
  return CLOSED.includes(operation.status);
}

/** `failure`: why the operation cannot be followed to its end, as a message for the user; empty while it can. */
export type Followed<Initial> = { operation: Operation | Initial; failure: string };

/** Subscribes to the operation from the `initial` state, which a query or mutation returned, and returns its newest state. */
export function useOperation<Initial extends Operation | undefined>(initial: Initial): Followed<Initial> {
  const id = initial?.id ?? "";
  // The subscription begins at the cursor of the first state; the connection keeps later cursors for reconnects.
  const variables = useMemo(() => ({ id, after: initial?.cursor }), [id]);
  const [{ data, error }] = useSubscription({
    query: FollowOperationDocument,
    variables,
    pause: !initial || isClosed(initial),
  });
  if (!initial || isClosed(initial)) return { operation: initial, failure: "" };
  const operation = data?.operation.id === id ? data.operation : initial;
  const isLost = error && !isClosed(operation);
  return { operation, failure: isLost ? `This operation cannot be followed any more: ${messageOf(error)}` : "" };
}
