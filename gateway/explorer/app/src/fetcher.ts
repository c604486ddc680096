/** The fetcher of GraphiQL: sends operations over HTTP and graphql-transport-ws, with the session of the cookie. */
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

  async function fetchAndRecord(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const response = await fetch(input, init);
    if (response.headers.get("content-type")?.includes("json")) {
      const answer = (await response.clone().json()) as Answer;
      session.record(answer);
      names.record(answer);
    }
    return response;
  }

  const send = createGraphiQLFetcher({
    url: HTTP_PATH,
    fetch: fetchAndRecord,
    // A socket is closed after its last subscription, so each new socket uses the present session.
    wsClient: createClient({ url: socketUrl(), connectionParams: () => session.headers() }),
  });

  return async (params, options) => {
    if (params.operationName === "IntrospectionQuery") return send(params, options);
    const headers = { ...(await session.headers()), ...options?.headers };
    const variables = await names.resolve(params.variables ?? {}, headers);
    const request: TracedParams = { ...params, variables, extensions: { trace: true } };
    return send(...withOperationName(request, { ...options, headers }));
  };
}

/** Set the operation name from the document: GraphiQL parses a document with a delay after its tab is opened, and until
 * then it would send the operation name of the previous tab. */
function withOperationName(params: FetcherParams, options: FetcherOpts): [FetcherParams, FetcherOpts] {
  let documentAST: DocumentNode;
  try {
    documentAST = parse(params.query);
  } catch {
    return [params, options]; // the gateway reports the syntax error
  }
  const operations = documentAST.definitions.flatMap((each) => (each.kind === Kind.OPERATION_DEFINITION ? [each] : []));
  const chosen = operations.find((each) => each.name?.value === params.operationName) ?? operations[0];
  return [{ ...params, operationName: chosen?.name?.value }, { ...options, documentAST }];
}
