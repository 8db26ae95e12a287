"""A whole site in simulated time: any schedule of faults, replayed from its seed."""
