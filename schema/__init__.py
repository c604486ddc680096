"""The GraphQL schema: root fields, types, inputs, scalars, errors, and the execution of documents."""
