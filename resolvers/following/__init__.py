"""Follow running operations: one watcher per operation, and the feed of a user."""
