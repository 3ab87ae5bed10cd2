"""The pure core: whose key applies, what it costs, what the ledger books. Standard library only, no I/O, no clock."""
