// `node crowd.mjs CONFIG`: many graphql-ws clients, a socket each, every one following an operation to its end. Says
// [client, "open"], [client, "state", cursor, status, mode], [client, "closed", code], [client, "complete"] and
// [client, "dead", why], a JSON line each.
import { inspect } from "node:util";

import { FOLLOW, resuming, say, socketClient } from "./documents.mjs";

const config = JSON.parse(process.argv[2]);
const pause = config.retryMilliseconds;
const patience = pause && {
  retryAttempts: 1000,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, pause * Math.random())),
  shouldRetry: () => true, // also where it is cut in the middle of connecting, which the library takes as final
};

/** Whether a client should subscribe again, as docs/subscriptions.md says; only where the test has it be patient. */
function isTemporary(errors) {
  return patience && errors.every((each) => ["UPSTREAM_UNAVAILABLE", "TIMEOUT"].includes(each.extensions?.code));
}

async function follow(client, operation) {
  const sockets = socketClient({
    url: `${config.websocket}?client=${client}`,
    token: config.token,
    onOpen: () => say([client, "open"]),
    onClose: (event) => say([client, "closed", event?.code ?? null]),
    ...patience, // else the library's own
  });
  const { payload, saw } = resuming({ query: FOLLOW, variables: { id: operation } });
  const followed = async () => {
    try {
      for await (const result of sockets.iterate(payload)) {
        if (result.errors) throw result.errors;
        saw(result.data.operation);
        const mode = result.extensions?.delivery?.mode ?? null;
        say([client, "state", result.data.operation.cursor, result.data.operation.status, mode]);
      }
      return true;
    } catch (errors) {
      // The library throws the list of an `error` message, which refuses the subscription as a whole.
      if (Array.isArray(errors) && isTemporary(errors)) return false;
      throw errors;
    }
  };
  try {
    while (!(await followed())) await patience.retryWait();
    say([client, "complete"]);
  } catch (error) {
    say([client, "dead", error?.message ? String(error.message) : inspect(error)]);
  }
  await sockets.dispose();
}

setTimeout(() => process.exit(1), config.seconds * 1000).unref();
await Promise.all(config.operations.map((operation, client) => follow(client, operation)));
process.exit(0);
