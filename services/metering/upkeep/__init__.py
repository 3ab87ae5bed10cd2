"""What keeps the ledger from growing with every batch, done by one worker at a time."""
