"""The `omaha-mirror` command: one module a command."""
