// `node audit.mjs URL`: writes the results of the GraphQL-over-HTTP audits of the server, one JSON line per audit.
import { auditServer } from "graphql-http";

import { writeJson } from "./documents.mjs";

for (const { name, status, reason } of await auditServer({ url: process.argv[2] })) writeJson({ name, status, reason });
