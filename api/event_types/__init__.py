"""The catalogue of what can happen."""
