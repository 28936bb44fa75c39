"""What keeps a system from working, found before it is needed: broker, access list, orchestrator, clock, disk."""
