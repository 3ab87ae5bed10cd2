"""`byok verify --replay`: the topic booked once more, into an empty shadow ledger, and both ledgers compared."""
