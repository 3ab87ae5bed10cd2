"""The registry's tables, and the statements on them."""
