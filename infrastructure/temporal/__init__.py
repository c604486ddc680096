"""The connection to Temporal, payload encryption, and reading an operation from a history."""
