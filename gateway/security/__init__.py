"""What protects the gateway's HTTP surface: proxy headers and host names."""
