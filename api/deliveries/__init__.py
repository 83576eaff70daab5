"""The delivery log: where else notifications went, and what came of it."""
