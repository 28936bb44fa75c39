"""orchestrator/adapters."""
