"""HTTP clients of the services, one file for each service."""
