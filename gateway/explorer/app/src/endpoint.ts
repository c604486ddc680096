/** The URLs of the gateway, and queries that the page sends for itself. */
export const HTTP_PATH = "/graphql";

export type Headers = Record<string, string>;
export type Answer = { data?: unknown; errors?: unknown[] };
export type Ask = <Data>(query: string, headers: Headers) => Promise<Data | null>;

export function socketUrl(): string {
  const url = new URL(HTTP_PATH, window.location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** Send a query and return its data; null if the response has no data, so that the page continues without them. */
export async function ask<Data>(query: string, headers: Headers): Promise<Data | null> {
  const response = await fetch(HTTP_PATH, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json", ...headers },
    body: JSON.stringify({ query }),
  });
  if (!response.headers.get("content-type")?.includes("json")) return null;
  return ((await response.json()) as { data?: Data | null }).data ?? null;
}

/** Return the payloads of the mutations in a response: the objects at the top level of its data. */
export function payloads(answer: Answer): Record<string, unknown>[] {
  if (typeof answer.data !== "object" || answer.data === null) return [];
  return Object.values(answer.data).filter((value) => typeof value === "object" && value !== null);
}
