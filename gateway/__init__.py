"""The web process: GraphQL over HTTP and websockets, uploads and downloads, and the composition root of all."""
