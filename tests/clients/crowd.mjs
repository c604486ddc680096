// `node crowd.mjs CONFIG`: many graphql-ws clients with a socket each; every client follows an operation to its end.
// Writes one JSON line per event: [client, "open"], [client, "state", cursor, status, mode], [client, "closed", code],
// [client, "complete"] or [client, "failed", reason].
import { inspect } from "node:util";

import { FOLLOW, resumable, writeJson, socketClient } from "./documents.mjs";

const config = JSON.parse(process.argv[2]);
const maxRetryMilliseconds = config.retryMilliseconds;
const retryOptions = maxRetryMilliseconds && {
  retryAttempts: 1000,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, maxRetryMilliseconds * Math.random())),
  shouldRetry: () => true, // also after a cut during the handshake, after which the library does not retry by default
};

/** Whether a client should subscribe again, see docs/subscriptions.md; only if the test sets a retry time. */
function isTemporary(errors) {
  return retryOptions && errors.every((each) => ["UPSTREAM_UNAVAILABLE", "TIMEOUT"].includes(each.extensions?.code));
}

async function follow(client, operation) {
  const sockets = socketClient({
    url: `${config.websocket}?client=${client}`,
    token: config.token,
    onOpen: () => writeJson([client, "open"]),
    onClose: (event) => writeJson([client, "closed", event?.code ?? null]),
    ...retryOptions, // otherwise the defaults of the library
  });
  const { payload, onState } = resumable({ query: FOLLOW, variables: { id: operation } });
  const followToEnd = async () => {
    try {
      for await (const result of sockets.iterate(payload)) {
        if (result.errors) throw result.errors;
        onState(result.data.operation);
        const mode = result.extensions?.delivery?.mode ?? null;
        writeJson([client, "state", result.data.operation.cursor, result.data.operation.status, mode]);
      }
      return true;
    } catch (errors) {
      // The library throws the list of errors of an `error` message, which ends the subscription.
      if (Array.isArray(errors) && isTemporary(errors)) return false;
      throw errors;
    }
  };
  try {
    while (!(await followToEnd())) await retryOptions.retryWait();
    writeJson([client, "complete"]);
  } catch (error) {
    writeJson([client, "failed", error?.message ? String(error.message) : inspect(error)]);
  }
  await sockets.dispose();
}

setTimeout(() => process.exit(1), config.seconds * 1000).unref();
await Promise.all(config.operations.map((operation, client) => follow(client, operation)));
process.exit(0);
