/** Which session the page speaks in: the cookie's, or one that an operation is still handing over. */
import { type Answer, type Ask, type Headers, payloads } from "./endpoint";

type Payload = { sessionToken?: string | null; operation?: { status?: string } };

/**
 * A cookie comes only with an answer in which the operation stands COMPLETED. Who starts one and does not wait
 * (waitSeconds: 0) holds a token instead, which opens nothing until the operation completes, while the cookie's
 * session ends at that moment. So the page keeps the token and tries it before each request until it works.
 */
export class Session {
  #token: string | null = null;
  #opened = false;

  constructor(private readonly ask: Ask) {}

  note(answer: Answer): void {
    for (const { sessionToken, operation } of payloads(answer) as Payload[]) {
      if (!sessionToken) continue;
      this.#token = operation?.status === "COMPLETED" ? null : sessionToken;
      this.#opened = false;
    }
  }

  /** What a request or a socket has to carry besides the cookie. */
  async headers(): Promise<Headers> {
    if (this.#token === null) return {};
    const headers = { authorization: `Bearer ${this.#token}` };
    if (!this.#opened) {
      const data = await this.ask<{ viewer: object | null }>("{ viewer { session { id } } }", headers);
      this.#opened = Boolean(data?.viewer);
    }
    return this.#opened ? headers : {};
  }
}
