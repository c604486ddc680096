"""Caches in memory and in Redis, single flight, and batching of loads."""
