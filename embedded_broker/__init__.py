"""embedded_broker."""
