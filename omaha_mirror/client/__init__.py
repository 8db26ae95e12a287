"""Clients of the Omaha protocol: one machine that updates as update_engine does, and a simulated fleet."""
