"""From records to ledger entries: read, priced, written, each once."""
