/** The session of the page: that of the cookie, or the new session of an operation that has not completed. */
import { type Answer, type Ask, type Headers, payloads } from "./endpoint";

type Payload = { sessionToken?: string | null; operation?: { status?: string } };

/**
 * The gateway sets the cookie only in a response in which the operation is COMPLETED. A client that starts an operation
 * without waiting (waitSeconds: 0) receives a token instead, which is invalid until the operation completes. At that
 * moment the session of the cookie ends. The page therefore stores the token and tries it before each request.
 */
export class Session {
  #token: string | null = null;
  #isValid = false;

  constructor(private readonly ask: Ask) {}

  /** Record the session token of a mutation. */
  record(answer: Answer): void {
    for (const { sessionToken, operation } of payloads(answer) as Payload[]) {
      if (!sessionToken) continue;
      this.#token = operation?.status === "COMPLETED" ? null : sessionToken;
      this.#isValid = false;
    }
  }

  /** Return the headers of a request or socket: the token if its session is valid, else none (the cookie applies). */
  async headers(): Promise<Headers> {
    if (this.#token === null) return {};
    const headers = { authorization: `Bearer ${this.#token}` };
    if (!this.#isValid) {
      const data = await this.ask<{ viewer: object | null }>("{ viewer { session { id } } }", headers);
      this.#isValid = Boolean(data?.viewer);
    }
    return this.#isValid ? headers : {};
  }
}
