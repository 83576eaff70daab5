"""Dead letters: events that the worker gave up, and the way back."""
