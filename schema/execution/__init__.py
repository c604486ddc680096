"""Parsing, validation, cost analysis and execution of GraphQL documents."""
