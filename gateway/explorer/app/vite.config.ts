import { defineConfig } from "vite";

export default defineConfig({
  base: "/graphiql/",
  build: {
    outDir: "../dist",
    emptyOutDir: true,
    // No assets are inlined, so that the gateway can forbid inline scripts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Monaco, the editor in GraphiQL, is that large. The browser caches it.
    chunkSizeWarningLimit: 8192,
    rollupOptions: {
      // "use client" in a dependency concerns frameworks with server rendering only.
      onwarn: (warning, warn) => warning.code === "MODULE_LEVEL_DIRECTIVE" || warn(warning),
    },
  },
  worker: { format: "es" },
});
