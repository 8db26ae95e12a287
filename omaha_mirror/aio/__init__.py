"""Work beside the event loop: threads that wait for disks, background tasks, the clock."""
