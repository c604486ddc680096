"""Strawberry types of the GraphQL schema: one file for each domain and each kind of operation."""
