"""Asking a provider about a key."""
