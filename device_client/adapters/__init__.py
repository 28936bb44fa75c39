"""device_client/adapters."""
