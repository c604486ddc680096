// What the JavaScript clients ask, and how each picks a subscription up again where its socket was cut.
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

/** A graphql-ws client as its documentation has it; `more` overrides. */
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
 * graphql-ws sends the payload of a subscription again after each reconnect: whatever its variables say by then. So
 * the newest cursor goes into them with every state.
 */
export function resuming(payload) {
  const variables = { ...payload.variables };
  return {
    payload: { ...payload, variables },
    saw(operation) {
      if (operation) variables.after = operation.cursor;
    },
  };
}

export function say(what) {
  process.stdout.write(JSON.stringify(what) + "\n");
}
