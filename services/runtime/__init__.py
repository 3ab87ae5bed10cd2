"""Plumbing without business nouns: settings, logs, databases, the broker, HTTP and tokens. Not a service."""
