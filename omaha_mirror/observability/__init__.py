"""What operators see: metrics, log lines, health, and the feed of the fleet database."""
