"""Protection of the endpoint: origins, headers, client addresses, rate limits, and the codec server."""
