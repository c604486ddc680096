"""Follow running operations: one watcher per operation, and one feed per user and tenant."""
