"""GraphQL over websockets: protocol handler, keepalive and limits."""
