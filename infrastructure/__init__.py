"""Access to external systems for every process, and the mechanisms that all layers share."""
