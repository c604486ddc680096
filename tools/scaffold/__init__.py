"""Write new operations with their tests: `make operation`."""
