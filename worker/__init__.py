"""Takes events from the queue and tells their subscribers."""
