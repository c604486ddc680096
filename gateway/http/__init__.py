"""GraphQL over HTTP: endpoint, persisted queries, event streams, health and middleware."""
