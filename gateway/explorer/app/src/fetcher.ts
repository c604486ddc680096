/** How GraphiQL talks to the gateway: over HTTP and graphql-transport-ws, signed in by the cookie. */
import { createGraphiQLFetcher, type Fetcher, type FetcherOpts, type FetcherParams } from "@graphiql/toolkit";
import { type DocumentNode, Kind, parse } from "graphql";
import { createClient } from "graphql-ws";

import { type Answer, ask, HTTP_PATH, socketUrl } from "./endpoint";
import { Names } from "./names";
import { Session } from "./session";

/** In development the gateway adds `extensions.trace` to the response, with the calls that it took. */
type TracedParams = FetcherParams & { extensions: { trace: true } };

export function createFetcher(): Fetcher {
  const session = new Session(ask);
  const names = new Names(ask);

  async function fetchAndNote(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const response = await fetch(input, init);
    if (response.headers.get("content-type")?.includes("json")) {
      const answer = (await response.clone().json()) as Answer;
      session.note(answer);
      names.note(answer);
    }
    return response;
  }

  const send = createGraphiQLFetcher({
    url: HTTP_PATH,
    fetch: fetchAndNote,
    // A socket lives no longer than its subscriptions, so each speaks in the session of its day.
    wsClient: createClient({ url: socketUrl(), connectionParams: () => session.headers() }),
  });

  return async (params, options) => {
    if (params.operationName === "IntrospectionQuery") return send(params, options);
    const headers = { ...(await session.headers()), ...options?.headers };
    const variables = await names.resolve(params.variables ?? {}, headers);
    const request: TracedParams = { ...params, variables, extensions: { trace: true } };
    return send(...asWritten(request, { ...options, headers }));
  };
}

/** GraphiQL reads a document a moment after its tab is opened: who runs it at once would ask for the last tab's operation. */
function asWritten(params: FetcherParams, options: FetcherOpts): [FetcherParams, FetcherOpts] {
  let documentAST: DocumentNode;
  try {
    documentAST = parse(params.query);
  } catch {
    return [params, options]; // the gateway says best what is wrong with it
  }
  const written = documentAST.definitions.flatMap((each) => (each.kind === Kind.OPERATION_DEFINITION ? [each] : []));
  const chosen = written.find((each) => each.name?.value === params.operationName) ?? written[0];
  return [{ ...params, operationName: chosen?.name?.value }, { ...options, documentAST }];
}
