"""GraphiQL, the GraphQL explorer: its page (``app``), the build of the page, and the routes that serve it."""
