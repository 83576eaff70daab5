"""Preferences: what a user wants in general."""
