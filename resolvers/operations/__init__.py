"""Start, read, follow, list, cancel and retry operations; one file for each kind of operation."""
