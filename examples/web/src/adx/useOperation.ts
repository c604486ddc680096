/** Follows an operation, live, from any state of it to its last. */
import { useMemo } from "react";
import { useSubscription } from "urql";

import { FollowOperationDocument, type OperationStateFragment, type OperationStatus } from "./generated/graphql";

export type Operation = OperationStateFragment;

const CLOSED: readonly OperationStatus[] = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

export function isClosed(operation: { status: OperationStatus }): boolean {
  return CLOSED.includes(operation.status);
}

/** The newest state of the operation that a query or a mutation told; of none, where it is undefined. */
export function useOperation<Told extends Operation | undefined>(told: Told): Operation | Told {
  const id = told?.id ?? "";
  // Where it is first seen is where it is followed from; the connection keeps the place from then on.
  const variables = useMemo(() => ({ id, after: told?.cursor }), [id]);
  const [{ data }] = useSubscription({
    query: FollowOperationDocument,
    variables,
    pause: !told || isClosed(told),
  });
  if (!told || isClosed(told)) return told;
  return data?.operation.id === id ? data.operation : told;
}
