"""device_client/core."""
