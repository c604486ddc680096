export default { documents: ["documents.js"], output: "persisted-query-manifest.json" };
