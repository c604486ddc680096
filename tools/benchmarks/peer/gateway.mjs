// The peer gateway of the benchmarks: graphql-yoga and graphql-ws with Temporal's Node.js client. It reads progress by
// polling a workflow query every 250 ms.
import { createDecipheriv, createHash, createHmac } from "node:crypto";
import { Agent, createServer, request } from "node:http";

import { Client, Connection } from "@temporalio/client";
import proto from "@temporalio/proto";
import { useServer } from "graphql-ws/use/ws";
import { createSchema, createYoga } from "graphql-yoga";
import { Redis } from "ioredis";
import { WebSocketServer } from "ws";

const env = process.env;
const POLL_MILLISECONDS = 250;
const HOT_SESSION_SECONDS = 30;

const redis = new Redis(env.REDIS_URL);
const agent = new Agent({ keepAlive: true, maxSockets: 100 });
const [keyId, keyText] = env.CODEC_KEYS.split(":");
const codecKey = Buffer.from(keyText, "base64");
const temporal = new Client({
  connection: await Connection.connect({ address: env.TEMPORAL_ADDRESS }),
  dataConverter: { payloadCodecs: [{ encode: async (payloads) => payloads, decode: async (payloads) => payloads.map(decrypted) }] },
});

function decrypted(payload) {
  if (Buffer.from(payload.metadata?.encoding ?? "").toString() !== "binary/encrypted") return payload;
  const data = Buffer.from(payload.data);
  const decipher = createDecipheriv("aes-256-gcm", codecKey, data.subarray(0, 12));
  decipher.setAAD(Buffer.from(keyId));
  decipher.setAuthTag(data.subarray(-16));
  const plain = Buffer.concat([decipher.update(data.subarray(12, -16)), decipher.final()]);
  return proto.temporal.api.common.v1.Payload.decode(plain);
}

function signed(service, caller) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const claims = { aud: `adx-${service}`, iat: now, exp: now + 30, caller };
  const text = `${part({ alg: "HS256" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", env.SERVICE_KEY).update(text).digest("base64url")}`;
}

function call(base, path, caller, body) {
  const headers = { authorization: `Bearer ${signed(path.split("/")[1], caller)}`, "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const sent = request(`${base}${path}`, { method: "POST", agent, headers, timeout: 5000 }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString();
        if (answer.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Error(text));
      });
    });
    sent.on("error", reject);
    sent.end(JSON.stringify(body));
  });
}

async function sessionOf(authorization) {
  const token = authorization?.replace(/^Bearer /, "");
  if (!token) return null;
  const hash = createHash("sha256").update(token).digest("hex");
  const key = `peer:session:${hash}`;
  const hot = await redis.get(key);
  if (hot) return JSON.parse(hot);
  const caller = { user_id: null, tenant_id: null, permissions: [], request_id: "" };
  const session = await call(env.AUTH_URL, "/auth/get_current_session", caller, { token_hash: hash });
  await redis.set(key, JSON.stringify(session), "EX", HOT_SESSION_SECONDS);
  return session;
}

async function signedIn(context) {
  const session = await sessionOf(context.authorization);
  if (!session) throw new Error("UNAUTHENTICATED");
  return session;
}

async function* states(_, { id }, context) {
  await signedIn(context);
  const handle = temporal.workflow.getHandle(id);
  let revision = -1;
  for (;;) {
    const state = await handle.query("state");
    if ((state.revision ?? 0) > revision) {
      revision = state.revision ?? 0;
      yield { operation: { id, ...state, status: state.status ?? "RUNNING", revision } };
      if (state.status === "COMPLETED") return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

const schema = createSchema({
  typeDefs: `
    type Query { viewer: Viewer }
    type Viewer { user: User! session: Session! }
    type User { id: ID! name: String! email: String! mfaEnabled: Boolean! createdAt: String! }
    type Session { id: ID! createdAt: String! expiresAt: String! }
    type Subscription { operation(id: ID!, after: String): Operation! }
    type Operation { id: ID! status: String! cursor: String! progress: Progress! }
    type Progress { currentStep: String completedSteps: Int! fraction: Float! steps: [Step!]! }
    type Step { name: String! status: String! attempt: Int! }
  `,
  resolvers: {
    Query: { viewer: (_, __, context) => sessionOf(context.authorization) },
    Viewer: {
      session: (session) => session,
      user: async (session) => {
        const { user_id, tenant_id, permissions } = session;
        const caller = { user_id, tenant_id, permissions, request_id: "" };
        const [user] = await call(env.USERS_URL, "/users/get_users", caller, { ids: [user_id] });
        return user;
      },
    },
    User: { mfaEnabled: (user) => user.mfa_enabled, createdAt: (user) => user.created_at },
    Session: { createdAt: (session) => session.created_at, expiresAt: (session) => session.expires_at },
    Subscription: { operation: { subscribe: states } },
    Operation: {
      cursor: ({ revision }) => Buffer.concat([Buffer.alloc(12), Buffer.from(`${revision}.0.0.0`)]).toString("base64url"),
      progress: (operation) => operation,
    },
    Progress: {
      currentStep: ({ steps }) => steps.find((step) => step.started_at && !step.completed_at)?.name ?? null,
      completedSteps: ({ steps }) => steps.filter((step) => step.status === "COMPLETED").length,
      fraction: ({ steps }) => steps.filter((step) => step.status === "COMPLETED").length / steps.length,
    },
    Step: { status: (step) => step.status ?? "PENDING", attempt: (step) => step.attempt ?? 0 },
  },
});

const yoga = createYoga({
  schema,
  graphiql: false,
  logging: false,
  context: ({ request: { headers } }) => ({ authorization: headers.get("authorization") }),
});
const server = createServer(yoga);
const sockets = new WebSocketServer({ server, path: yoga.graphqlEndpoint });
useServer({ schema, context: ({ connectionParams }) => ({ authorization: connectionParams?.authorization }) }, sockets);
process.on("SIGTERM", () => process.exit(0));
server.listen(Number(env.PEER_PORT), "127.0.0.1", () => console.log("ready"));
