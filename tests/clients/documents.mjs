// Documents of the JavaScript clients, and how each client resumes a subscription after its socket was cut.
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const STATE = `
fragment State on Operation {
  __typename id kind status cursor
  progress { currentStep completedSteps fraction steps { name status attempt } }
  error { code message }
}`;

export const READ = `query Read($id: ID!) { operation(id: $id) { ...State } } ${STATE}`;
export const FOLLOW = `
subscription Follow($id: ID!, $after: String) { operation(id: $id, after: $after) { ...State } } ${STATE}`;

/** A graphql-ws client with the options of its documentation, which `more` overrides. */
export function socketClient({ url, token, onOpen, onClose, ...more }) {
  return createClient({
    url,
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    on: { connected: onOpen, closed: onClose },
    ...more,
  });
}

/**
 * The payload of a subscription whose variable `after` is the cursor of the newest state. graphql-ws sends the payload
 * with the current variables again after each reconnect, so that the subscription resumes.
 */
export function resumable(payload) {
  const variables = { ...payload.variables };
  return {
    payload: { ...payload, variables },
    onState(operation) {
      if (operation) variables.after = operation.cursor;
    },
  };
}

/** Write the value to standard output as one JSON line. */
export function writeJson(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}
