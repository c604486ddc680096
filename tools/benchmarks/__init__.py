"""Benchmarks of the product, as ratios to a baseline that is measured in the same run: `make bench`."""
