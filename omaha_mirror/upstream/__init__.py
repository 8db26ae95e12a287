"""Fetching from the servers upstream: the port, its HTTP adapter, and the release server's layout."""
