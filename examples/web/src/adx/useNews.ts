/** Tells when to read lists again: an operation of the viewer started or closed, in whatever tab or program. */
import { useEffect, useEffectEvent } from "react";
import { useClient } from "urql";

import { useConnection } from "./client";
import { OperationsDocument } from "./generated/graphql";
import { isClosed } from "./useOperation";

export function useNews(onNews: () => void): void {
  const client = useClient();
  const connection = useConnection();
  const tell = useEffectEvent(onNews);

  useEffect(() => {
    const running = new Set<string>();
    const { unsubscribe } = client.subscription(OperationsDocument, {}).subscribe(({ data }) => {
      if (!data) return;
      const { id } = data.operations;
      const isNew = !running.has(id);
      if (isClosed(data.operations)) running.delete(id);
      else running.add(id);
      if (isNew || isClosed(data.operations)) tell();
    });
    return unsubscribe;
  }, [client]);

  // What closed while the connection was away is not told any more.
  useEffect(() => {
    if (connection === "live") tell();
  }, [connection]);
}
