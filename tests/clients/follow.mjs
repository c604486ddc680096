// `node follow.mjs graphql-ws|apollo|urql CONFIG`: follows one operation to its end. Writes one JSON line for each open
// socket ("open"), each state ("state"), the result of a watched query after the end ("cached") and "complete".
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { getMainDefinition } from "@apollo/client/utilities";
import { Client as UrqlClient, fetchExchange, subscriptionExchange } from "@urql/core";
import { cacheExchange } from "@urql/exchange-graphcache";
import { buildSchema, introspectionFromSchema } from "graphql";
import { tap } from "rxjs";

import { FOLLOW, READ, resumable, writeJson, socketClient } from "./documents.mjs";

const [client, config] = [process.argv[2], JSON.parse(process.argv[3])];
const headers = { authorization: `Bearer ${config.token}` };
const sockets = socketClient({
  url: config.websocket,
  token: config.token,
  retryAttempts: 20,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * 100)),
  onOpen: () => writeJson({ open: true }),
});
const id = config.operation;

async function graphqlWs() {
  const { payload, onState } = resumable({ query: FOLLOW, variables: { id } });
  for await (const result of sockets.iterate(payload)) {
    if (result.errors) throw new Error(JSON.stringify(result.errors));
    onState(result.data.operation);
    writeJson({ state: result.data.operation });
  }
}

async function apollo() {
  const resume = new ApolloLink((operation, forward) =>
    forward(operation).pipe(
      tap((result) => {
        // The link below sends the same variables object again after a reconnect.
        if (result.data?.operation) operation.variables.after = result.data.operation.cursor;
      }),
    ),
  );
  const isSubscription = ({ query }) => getMainDefinition(query).operation === "subscription";
  const apollo = new ApolloClient({
    link: ApolloLink.split(
      isSubscription,
      ApolloLink.from([resume, new GraphQLWsLink(sockets)]),
      new HttpLink({ uri: config.graphql, headers }),
    ),
    cache: new InMemoryCache({ possibleTypes: await possibleTypes() }),
  });
  const watched = apollo.watchQuery({ query: gql(READ), variables: { id } });
  let shown;
  watched.subscribe({ next: ({ data }) => (shown = data?.operation), error: fail });
  await apollo.query({ query: gql(READ), variables: { id } });
  await new Promise((resolve, reject) =>
    apollo.subscribe({ query: gql(FOLLOW), variables: { id } }).subscribe({
      next({ data, error }) {
        if (error) reject(error);
        else writeJson({ state: data.operation });
      },
      error: reject,
      complete: resolve,
    }),
  );
  await new Promise((resolve) => setTimeout(resolve, 100)); // watched queries are updated a moment later
  writeJson({ cached: shown });
  apollo.stop();
}

async function urql() {
  const urql = new UrqlClient({
    url: config.graphql,
    fetchOptions: { headers },
    preferGetMethod: false,
    exchanges: [
      cacheExchange({ schema: introspectionFromSchema(await schema()) }),
      fetchExchange,
      subscriptionExchange({
        forwardSubscription(request) {
          const { payload, onState } = resumable({ query: request.query ?? "", variables: request.variables });
          return {
            subscribe(sink) {
              const next = (result) => {
                onState(result.data?.operation);
                sink.next(result);
              };
              const unsubscribe = sockets.subscribe(payload, { ...sink, next, complete: () => sink.complete() });
              return { unsubscribe };
            },
          };
        },
      }),
    ],
  });
  let shown;
  const watched = urql.query(READ, { id }).subscribe(({ data, error }) => {
    if (error) fail(error);
    shown = data?.operation;
  });
  await new Promise((resolve, reject) => {
    urql.subscription(FOLLOW, { id }).subscribe(({ data, error, hasNext }) => {
      if (error) reject(error);
      else if (data?.operation && hasNext !== false) writeJson({ state: data.operation });
      if (hasNext === false) resolve();
    });
  });
  writeJson({ cached: shown });
  watched.unsubscribe();
}

async function schema() {
  const response = await fetch(`${config.graphql}/schema`);
  return buildSchema(await response.text());
}

async function possibleTypes() {
  return (await fetch(`${config.graphql}/possible-types`)).json();
}

function fail(error) {
  writeJson({ failed: String(error?.message ?? error?.reason ?? error) });
  process.exit(1);
}

setTimeout(() => fail("The operation did not end in time."), config.seconds * 1000).unref();
try {
  await { "graphql-ws": graphqlWs, apollo, urql }[client]();
  writeJson({ complete: true });
  await sockets.dispose();
  process.exit(0);
} catch (error) {
  fail(error);
}
