"""Measure how fast the product is, as ratios in one run: `make bench`."""
