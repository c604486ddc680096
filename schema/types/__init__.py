"""The Strawberry types, one file per domain or kind of operation."""
