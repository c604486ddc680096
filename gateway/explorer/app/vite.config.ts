import { defineConfig } from "vite";

export default defineConfig({
  base: "/graphiql/",
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    // Nothing is written into the page itself, so that the gateway can forbid inline scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Monaco, the editor in GraphiQL, is that large; it comes from the same machine and is cached.
    chunkSizeWarningLimit: 8192,
    rollupOptions: {
      // "use client" in a dependency concerns frameworks that render on a server, which this is not.
      onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning),
    },
  },
  worker: { format: "es" },
});
