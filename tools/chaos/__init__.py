"""Kill and cut off every part of the product, and check that its invariants hold: `make chaos`."""
