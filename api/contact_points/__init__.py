"""Contact points: where a user is reached, proved and tried out by the user."""
