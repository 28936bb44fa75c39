"""orchestrator/demo."""
