"""The inbox: what happened, told to one user."""
