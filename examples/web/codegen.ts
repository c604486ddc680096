import type { CodegenConfig } from "@graphql-codegen/cli";

/** Types for exactly the documents that this page sends; made anew before each start, build and check. */
const config: CodegenConfig = {
  schema: "../../schema.graphql",
  documents: "src/**/*.graphql",
  generates: {
    "src/adx/generated/": {
      preset: "client",
      presetConfig: { fragmentMasking: false, persistedDocuments: { hashAlgorithm: "sha256" } },
      config: { useTypeImports: true, strictScalars: true, scalars: { ByteCount: "number", DateTime: "string", JSON: "unknown" } },
    },
  },
};

export default config;
