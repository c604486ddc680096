/** Follows an operation, live, from any state of it to its last. */
import { useMemo } from "react";
import { useSubscription } from "urql";

import { messageOf } from "./errors";
import { FollowOperationDocument, type OperationStateFragment, type OperationStatus } from "./generated/graphql";

export type Operation = OperationStateFragment;

const CLOSED: readonly OperationStatus[] = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

/** A status that this page does not know, of a newer gateway, is one of an operation that goes on. */
export function isClosed(operation: { status: OperationStatus }): boolean {
  return CLOSED.includes(operation.status);
}

/** `trouble`: why nothing newer will come although the operation is not closed, in words for a user; else empty. */
export type Followed<Told> = { operation: Operation | Told; trouble: string };

/** The newest state of the operation that a query or a mutation told; of none, where it is undefined. */
export function useOperation<Told extends Operation | undefined>(told: Told): Followed<Told> {
  const id = told?.id ?? "";
  // Where it is first seen is where it is followed from; the connection keeps the place from then on.
  const variables = useMemo(() => ({ id, after: told?.cursor }), [id]);
  const [{ data, error }] = useSubscription({
    query: FollowOperationDocument,
    variables,
    pause: !told || isClosed(told),
  });
  if (!told || isClosed(told)) return { operation: told, trouble: "" };
  const operation = data?.operation.id === id ? data.operation : told;
  const isLost = error && !isClosed(operation);
  return { operation, trouble: isLost ? `This operation cannot be followed any more: ${messageOf(error)}` : "" };
}
