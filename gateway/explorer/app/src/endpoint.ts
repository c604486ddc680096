/** Where the gateway is, and how the page asks it something on its own account. */
export const HTTP_PATH = "/graphql";

export type Headers = Record<string, string>;
export type Answer = { data?: unknown; errors?: unknown[] };
export type Ask = <Data>(query: string, headers: Headers) => Promise<Data | null>;

export function socketUrl(): string {
  const url = new URL(HTTP_PATH, window.location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** The data of a query, or null where the gateway gave none: the page can then only go on without. */
export async function ask<Data>(query: string, headers: Headers): Promise<Data | null> {
  const response = await fetch(HTTP_PATH, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json", ...headers },
    body: JSON.stringify({ query }),
  });
  if (!response.headers.get("content-type")?.includes("json")) return null;
  return ((await response.json()) as { data?: Data | null }).data ?? null;
}

/** The payloads of an answer's mutations: the objects that stand at the top of its data. */
export function payloads(answer: Answer): Record<string, unknown>[] {
  if (typeof answer.data !== "object" || answer.data === null) return [];
  return Object.values(answer.data).filter((value) => typeof value === "object" && value !== null);
}
