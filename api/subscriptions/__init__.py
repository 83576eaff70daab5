"""Subscriptions: who wants to hear of what."""
