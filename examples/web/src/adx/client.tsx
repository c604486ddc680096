/** The gateway as components see it: urql's hooks, signed in by the cookie, and how the connection is. */
import { persistedExchange } from "@urql/exchange-persisted";
import { retryExchange } from "@urql/exchange-retry";
import { createContext, type ReactNode, useContext, useSyncExternalStore } from "react";
import { Client, fetchExchange, Provider, subscriptionExchange } from "urql";

import { Connection, type ConnectionState, type Sink } from "./connection";

/** Belongs to one session: whoever signs in, out, or into another tenant makes a new one. */
export interface Adx {
  readonly client: Client;
  readonly connection: Connection;
  /** Sets the tenant that the page displays: the gateway then refuses mutations in another tenant. */
  readonly display: (tenantId: string) => void;
}

const ANSWER_SECONDS = 45;

/**
 * Set when the page is built for a gateway with REQUIRE_TRUSTED_DOCUMENTS: then each document is sent as the id that
 * graphql-codegen gave it, which generated/persisted-documents.json, the manifest, has too.
 */
const SENDS_IDS = import.meta.env.VITE_TRUSTED_DOCUMENTS === "true";

export function createAdx(path = "/graphql"): Adx {
  let tenant: string | undefined;
  const connection = new Connection(new URL(path, location.href.replace(/^http/, "ws")).href, () => tenant);
  const client = new Client({
    url: path,
    preferGetMethod: false,
    fetchOptions: () => (tenant ? { headers: { "X-Tenant-Id": tenant } } : {}),
    fetch: fetchInTime,
    // There is no cache here, so each answer is the gateway's own. Where pages share data, put Graphcache before these.
    exchanges: [
      // A mutation with an idempotencyKey may be sent as often as it takes: it is the same operation each time.
      // Subscriptions are the connection's own business.
      retryExchange({
        maxNumberAttempts: 8,
        initialDelayMs: 500,
        maxDelayMs: 5000,
        retryIf: ({ networkError }, { kind }) =>
          !!networkError && networkError.name !== "TimeoutError" && kind !== "subscription",
      }),
      ...(SENDS_IDS ? [idExchange] : []),
      fetchExchange,
      subscriptionExchange({
        forwardSubscription: ({ query = "", variables, extensions }) => ({
          subscribe: (sink) => ({
            unsubscribe: connection.subscribe({ query, variables: { ...variables }, extensions }, sink as Sink),
          }),
        }),
      }),
    ],
  });
  return { client, connection, display: (tenantId) => (tenant = tenantId) };
}

/** Aborts a request that has no answer after ANSWER_SECONDS. The gateway answers within forty seconds. */
const fetchInTime: typeof fetch = (input, init) => {
  const late = new AbortController();
  setTimeout(() => late.abort(new DOMException("No answer in time", "TimeoutError")), ANSWER_SECONDS * 1000);
  return fetch(input, { ...init, signal: AbortSignal.any([late.signal, ...(init?.signal ? [init.signal] : [])]) });
};

const idExchange = persistedExchange({
  enforcePersistedQueries: true,
  enableForMutation: true,
  enableForSubscriptions: true,
  preferGetForPersistedQueries: false,
  generateHash: async (_, document) => (document as unknown as { __meta__: { hash: string } }).__meta__.hash,
});

const AdxContext = createContext<Adx | null>(null);

export function AdxProvider({ adx, children }: { adx: Adx; children: ReactNode }) {
  return (
    <AdxContext value={adx}>
      <Provider value={adx.client}>{children}</Provider>
    </AdxContext>
  );
}

export function useConnection(): ConnectionState {
  const adx = useContext(AdxContext);
  if (!adx) throw new Error("useConnection belongs inside an AdxProvider");
  return useSyncExternalStore(adx.connection.listen, () => adx.connection.state);
}
