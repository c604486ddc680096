"""The connection to Temporal, payload encryption, and conversion of Temporal's data into operations."""
