"""Programs for developers: generators of data, benchmarks, scaffolding. No process of the product imports them."""
