"""orchestrator/core."""
