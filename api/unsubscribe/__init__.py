"""Unsubscribing by one click, without a login."""
