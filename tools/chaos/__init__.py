"""Chaos tests: kill, pause and disconnect every component of the product, then check its invariants (`make chaos`)."""
