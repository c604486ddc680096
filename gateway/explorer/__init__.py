"""GraphiQL, served by the gateway itself: built from `app` by `build`, answered by `routes`."""
