"""device_client."""
