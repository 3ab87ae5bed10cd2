"""The HTTP API of the registry: routes, bodies, callers."""
