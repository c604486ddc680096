"""Generate source files: a new operation (`make operation`) or a new domain (`make domain`), with their tests."""
