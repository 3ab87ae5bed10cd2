"""Envelope encryption, and the key-encryption keys."""
