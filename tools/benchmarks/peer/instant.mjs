// `node instant.mjs PORT ANSWERS`: an HTTP server with constant responses, so that only the gateway is measured. ANSWERS
// is a JSON object with a response body per path.
import { createServer } from "node:http";

const answers = new Map(Object.entries(JSON.parse(process.argv[3])).map(([path, body]) => [path, JSON.stringify(body)]));
const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
  request.resume();
  request.on("end", () => {
    const body = answers.get(request.url);
    response.writeHead(body ? 200 : 404, { "content-type": "application/json", "content-length": Buffer.byteLength(body ?? "") });
    response.end(body ?? "");
  });
});
process.on("SIGTERM", () => process.exit(0));
server.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("ready"));
