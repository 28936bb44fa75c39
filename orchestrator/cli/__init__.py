"""orchestrator/cli."""
