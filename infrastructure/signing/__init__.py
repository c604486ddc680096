"""Secret keys that can be rotated, and the signed tokens of service calls and file transfers."""
