export default {
  schema: "schema.graphql",
  documents: ["documents.graphql", "fragments.graphql"],
  generates: {
    "generated/": {
      preset: "client",
      presetConfig: {
        fragmentMasking: false,
        persistedDocuments: { hashAlgorithm: process.env.ALGORITHM ?? "sha256" },
      },
    },
  },
};
