"""Caches, and one execution for simultaneous equal requests."""
