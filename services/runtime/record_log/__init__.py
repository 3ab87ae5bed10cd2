"""Reading a Kafka log whatever bytes lie in it: what cannot be read is told by its place, and never ends the reader."""

from services.runtime.record_log.tolerant import read_tolerantly, unreadable_because

__all__ = ["read_tolerantly", "unreadable_because"]
