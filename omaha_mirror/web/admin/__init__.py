"""The admin listener: what operators see and do."""
