"""Access to external systems (Redis, Temporal, storage, OpenTelemetry), and mechanisms that all layers share."""
