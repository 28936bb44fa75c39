"""orchestrator/telemetry."""
