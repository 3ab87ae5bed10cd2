"""Proves the books: every entry derived again, every offset and total held against its rows."""
