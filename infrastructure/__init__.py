"""Access to external systems and shared technical services (rate limits, quotas, tasks), usable by any process."""
