"""Rate limits (per time) and quotas (at a time), in memory and in Redis."""
