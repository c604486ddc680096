"""HTTP clients of the services, one file per service."""
