"""Programs for developers: code generators, benchmarks, chaos tests. No process of the product imports them."""
