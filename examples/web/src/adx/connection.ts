/** The websocket to the gateway: how it is, how it comes back, and where a subscription goes on after it did. */
import { type Client, createClient } from "graphql-ws";

/** `signed-out` (the session is over) and `ended` (the gateway has had enough of it) are final: only another client helps. */
export type ConnectionState = "idle" | "live" | "reconnecting" | "signed-out" | "ended";

const FINAL: readonly ConnectionState[] = ["signed-out", "ended"];
const PING_INTERVAL_SECONDS = 10;
const PONG_SECONDS = 5;
const LONGEST_WAIT_SECONDS = 15;
const SIGNED_OUT = 4401;
const TEMPORARY = ["UPSTREAM_UNAVAILABLE", "TIMEOUT", "RATE_LIMITED"];

/** If `query` is empty, `extensions` name the document. */
type Payload = { query: string; variables: Record<string, unknown>; extensions?: Record<string, unknown> };
type Answer = { data?: Record<string, unknown> | null; errors?: readonly object[] };
export type Sink<T = Answer> = { next(value: T): void; error(reason: unknown): void; complete(): void };

export class Connection {
  state: ConnectionState = "idle";
  readonly #listeners = new Set<() => void>();
  readonly #disposal = new AbortController();
  readonly #socket: Client;

  /** `tenantId` returns the tenant that the page displays, once it is known. */
  constructor(url: string, tenantId: () => string | undefined = () => undefined) {
    let silence: ReturnType<typeof setTimeout>;
    this.#socket = createClient({
      url,
      connectionParams: () => ({ tenantId: tenantId() }),
      keepAlive: PING_INTERVAL_SECONDS * 1000,
      retryAttempts: Infinity,
      shouldRetry: () => true, // a handshake that fails is no reason to give up, either
      retryWait: wait,
      on: {
        connected: () => this.#turn("live"),
        closed: (event) => {
          clearTimeout(silence);
          this.#turn((event as CloseEvent).code === 1000 ? "idle" : "reconnecting");
        },
        // A network that swallows everything closes no socket: whose ping is not answered is gone.
        ping: (received) => {
          if (!received) silence = setTimeout(() => this.#socket.terminate(), PONG_SECONDS * 1000);
        },
        pong: (received) => received && clearTimeout(silence),
      },
    });
    window.addEventListener("offline", () => this.#socket.terminate(), { signal: this.#disposal.signal });
  }

  /** Follows a subscription until it completes, over whatever happens to the network. Returns how to stop it. */
  subscribe(request: Payload, sink: Sink): () => void {
    const payload: Payload = { ...request, variables: { ...request.variables } };
    let stop = () => {};
    const begin = () => {
      let brokeOff = false;
      stop = this.#socket.subscribe<Record<string, unknown>>(payload, {
        next: (answer) => {
          // The same payload is sent again after a reconnect: by then it asks only for what is newer than this.
          const cursor = (answer.data?.operation as { cursor?: string } | null | undefined)?.cursor;
          if (cursor) payload.variables.after = cursor;
          brokeOff = !answer.data && isPassing(answer.errors);
          if (!brokeOff) sink.next(answer as Answer);
        },
        error: (reason) => {
          if (isPassing(reason)) return again();
          if (!Array.isArray(reason)) this.#turn(isSignedOut(reason) ? "signed-out" : "ended");
          sink.error(reason);
        },
        complete: () => (brokeOff ? again() : sink.complete()),
      });
    };
    const again = () => {
      const timer = setTimeout(begin, 1000);
      stop = () => clearTimeout(timer);
    };
    begin();
    return () => stop();
  }

  readonly listen = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  dispose(): void {
    this.#disposal.abort();
    Promise.resolve(this.#socket.dispose()).catch(() => {}); // it was about to connect
  }

  #turn(state: ConnectionState): void {
    if (this.#disposal.signal.aborted || state === this.state || FINAL.includes(this.state)) return;
    this.state = state;
    for (const listener of this.#listeners) listener();
  }
}

/** Longer each time, never the same for two clients, and over at once when the device has a network again. */
function wait(tries: number): Promise<void> {
  const seconds = Math.min(LONGEST_WAIT_SECONDS, 0.5 * 2 ** tries) * (0.5 + Math.random());
  return new Promise((done) => {
    const timer = setTimeout(finish, seconds * 1000);
    window.addEventListener("online", finish);
    function finish() {
      clearTimeout(timer);
      window.removeEventListener("online", finish);
      done();
    }
  });
}

/** Whether the errors are temporary (a service is unavailable, a rate limit): then the subscription is repeated. */
function isPassing(errors: unknown): boolean {
  return Array.isArray(errors) && errors.some((each) => TEMPORARY.includes(each?.extensions?.code));
}

function isSignedOut(reason: unknown): boolean {
  return (reason as { code?: number }).code === SIGNED_OUT;
}
