// `node client.mjs CLIENT CONFIG` runs in a folder where the client's tool has written its manifest. The client queries
// the viewer over HTTP and subscribes to an operation over a websocket, by ids of documents only, and writes the two
// responses as JSON lines.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [name, config] = [process.argv[2], JSON.parse(process.argv[3])];
const headers = { authorization: `Bearer ${config.token}` };
const variables = { id: config.operation };
const sockets = createClient({ url: config.websocket, webSocketImpl: WebSocket, connectionParams: headers, retryAttempts: 0 });
const here = (file) => import(pathToFileURL(file).href);

/** The first result of a subscription. graphql-ws requires a query, which may be empty. */
async function first(payload) {
  for await (const result of sockets.iterate({ query: "", ...payload })) return result;
}

async function post(body) {
  const options = { method: "POST", headers: { ...headers, "content-type": "application/json" } };
  return (await fetch(config.graphql, { ...options, body: JSON.stringify(body) })).json();
}

/** The documents that graphql-codegen generated, compiled from TypeScript. */
async function generatedDocuments() {
  const { default: ts } = await import("typescript");
  const source = readFileSync("generated/graphql.ts", "utf8");
  const options = { compilerOptions: { module: "ESNext", target: "ES2022" } };
  const { outputText } = ts.transpileModule(source, options);
  return import(`data:text/javascript,${encodeURIComponent(outputText)}`);
}

const clients = {
  /** As in the documentation of graphql-codegen. */
  async codegen() {
    const { ReadDocument, FollowDocument } = await generatedDocuments();
    const persisted = (document) => ({ persistedQuery: { version: 1, sha256Hash: document.__meta__.hash } });
    return [
      await post({ extensions: persisted(ReadDocument) }),
      await first({ variables, extensions: persisted(FollowDocument) }),
    ];
  },

  /** The parameter of the proposal for GraphQL over HTTP. */
  async documentId() {
    const { ReadDocument, FollowDocument } = await generatedDocuments();
    return [
      await post({ documentId: ReadDocument.__meta__.hash }),
      await first({ variables, documentId: FollowDocument.__meta__.hash }),
    ];
  },

  async urql() {
    const { Client, fetchExchange, subscriptionExchange } = await import("@urql/core");
    const { persistedExchange } = await import("@urql/exchange-persisted");
    const { ReadDocument, FollowDocument } = await generatedDocuments();
    const urql = new Client({
      url: config.graphql,
      fetchOptions: { headers },
      exchanges: [
        persistedExchange({
          enforcePersistedQueries: true,
          enableForMutation: true,
          enableForSubscriptions: true,
          generateHash: async (_, document) => document.__meta__.hash,
        }),
        fetchExchange,
        subscriptionExchange({
          forwardSubscription: (payload) => ({
            subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ ...payload, query: payload.query ?? "" }, sink) }),
          }),
        }),
      ],
    });
    const read = await urql.query(ReadDocument, {}).toPromise();
    const followed = await new Promise((resolve) => {
      const { unsubscribe } = urql.subscription(FollowDocument, variables).subscribe((result) => {
        resolve(result);
        setTimeout(() => unsubscribe());
      });
    });
    return [read, followed].map(({ data, error }) => (error ? { errors: [error.message] } : { data }));
  },

  async apollo() {
    const { ApolloClient, ApolloLink, HttpLink, InMemoryCache } = await import("@apollo/client");
    const { PersistedQueryLink } = await import("@apollo/client/link/persisted-queries");
    const { GraphQLWsLink } = await import("@apollo/client/link/subscriptions");
    const { getMainDefinition } = await import("@apollo/client/utilities");
    const { generatePersistedQueryIdsFromManifest } = await import("@apollo/persisted-query-lists");
    const { READ, FOLLOW } = await here("documents.js");
    const manifest = JSON.parse(readFileSync("persisted-query-manifest.json", "utf8"));
    const client = new ApolloClient({
      link: ApolloLink.from([
        new PersistedQueryLink(generatePersistedQueryIdsFromManifest({ loadManifest: () => manifest })),
        ApolloLink.split(
          ({ query }) => getMainDefinition(query).operation === "subscription",
          new GraphQLWsLink(sockets),
          new HttpLink({ uri: config.graphql, headers }),
        ),
      ]),
      cache: new InMemoryCache({ possibleTypes: { Operation: ["TenantSwitch"] } }),
    });
    const read = await client.query({ query: READ });
    const followed = await new Promise((resolve, reject) => {
      client.subscribe({ query: FOLLOW, variables }).subscribe({ next: resolve, error: reject });
    });
    return [read, followed];
  },

  /** As in the documentation of Relay. */
  async relay() {
    const { default: relay } = await import("relay-runtime");
    const { Environment, Network, Observable, RecordSource, Store, fetchQuery, requestSubscription } = relay;
    const { default: read } = await here("__generated__/documentsReadQuery.graphql.js");
    const { default: follow } = await here("__generated__/documentsFollowSubscription.graphql.js");
    const responses = [];
    const environment = new Environment({
      store: new Store(new RecordSource()),
      network: Network.create(
        async (params, variables) => {
          responses.push(await post({ doc_id: params.id, query: params.text, variables }));
          return responses.at(-1);
        },
        (params, variables) =>
          Observable.create((sink) => {
            const request = { id: params.id, operationName: params.name, query: params.text ?? "", variables };
            return sockets.subscribe(request, { ...sink, next: (value) => (responses.push(value), sink.next(value)) });
          }),
      ),
    });
    await fetchQuery(environment, read, {}).toPromise();
    await new Promise((resolve, reject) => {
      requestSubscription(environment, { subscription: follow, variables, onNext: resolve, onError: reject });
    });
    return responses;
  },

  /** A client whose manifest `make documents` wrote: it sends the hash of what graphql-js prints. */
  async printed() {
    const { parse, print } = await import("graphql");
    const { definitions } = parse(["documents", "fragments"].map((file) => readFileSync(`${file}.graphql`)).join("\n"));
    const document = (...names) =>
      print({ kind: "Document", definitions: names.map((name) => definitions.find((each) => each.name.value === name)) });
    const hash = (text) => createHash("sha256").update(text).digest("hex");
    return [
      await post({ documentId: hash(document("Read", "Person")) }),
      await first({ query: document("Follow", "State"), variables }),
    ];
  },
};

for (const response of await clients[name]()) {
  process.stdout.write(JSON.stringify({ data: response?.data, errors: response?.errors ?? response?.error }) + "\n");
}
process.exit(0);
