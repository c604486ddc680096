"""GraphQL over websockets (protocol graphql-transport-ws): protocol handler, keepalive and limits."""
