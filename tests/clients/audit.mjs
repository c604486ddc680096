// What the audits of the GraphQL over HTTP specification find out about the server at the URL given.
import { auditServer } from "graphql-http";

import { say } from "./documents.mjs";

for (const { name, status, reason } of await auditServer({ url: process.argv[2] })) say({ name, status, reason });
