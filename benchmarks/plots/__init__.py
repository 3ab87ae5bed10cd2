"""How the system grows: measured, kept as JSON, drawn. `make bench-plots` runs it, docs/growth.md shows it."""
