"""Sends deliveries on their way: claims what is due, sends it, records what came of it."""
