"""The ledger's database: its tables, rows and totals, for whoever writes or reads it."""
