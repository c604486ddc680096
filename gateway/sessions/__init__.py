"""Sessions at the gateway: cache, cookies, and the monitor that ends streams with their session."""
