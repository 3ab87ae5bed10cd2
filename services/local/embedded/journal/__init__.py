"""The embedded broker's memory on disk: a proxy that keeps usage records until they are booked (ADR 0022)."""
