"""Faust's part: records in, and what it did not deliver."""
