"""Start, read, list, cancel and retry operations; one file per kind of operation."""
