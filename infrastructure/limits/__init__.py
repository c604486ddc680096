"""Rate limits (requests per time) and quotas (concurrent use), in memory and in Redis."""
