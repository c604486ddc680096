"""GraphQL over HTTP: endpoint, persisted queries, event streams, health endpoints and middleware."""
