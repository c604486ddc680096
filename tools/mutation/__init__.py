"""Sampled mutation tests of the critical modules: `python -m tools.mutation`."""
