import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The page and the gateway share one origin, as they do behind a proxy in production: so the session's cookie goes
// along by itself, to websockets too, and no other origin has to be allowed.
const gateway = process.env.ADX_URL ?? "http://127.0.0.1:8080";
const proxy = {
  "/graphql": { target: gateway, ws: true },
  "/uploads": { target: gateway },
  "/downloads": { target: gateway },
};

export default defineConfig({
  plugins: [react()],
  server: { host: "127.0.0.1", port: 5173, proxy },
  preview: { host: "127.0.0.1", port: 4173, proxy },
});
