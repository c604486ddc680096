"""Data for the fields of the GraphQL schema: access checks, data loading, starts and states of operations."""
